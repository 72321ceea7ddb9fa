"""Adapters that PEFT itself writes: what it makes of them when it loads them again is the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from safemerge import Recipe
from safemerge.errors import CheckpointError
from safemerge.inputs import open_inputs

BASE = Path(__file__).parents[2] / "data" / "goldens" / "fp32" / "models" / "base"
LORA = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"]}


def saved(folder: Path, config: Any, seed: int = 0) -> Path:
    """An adapter of the base with random values, written by PEFT."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(BASE), config)
    starts_elsewhere = getattr(config, "init_lora_weights", True) == "pissa"
    if starts_elsewhere:  # is converted when it is saved, by what it started from
        config.init_lora_weights = True
        model.save_pretrained(folder / "start")
        config.init_lora_weights = "pissa"
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape)
    converted = {"path_initial_model_for_weight_conversion": str(folder / "start")}
    model.save_pretrained(folder, **(converted if starts_elsewhere else {}))
    return folder


def reloaded(*folders: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), folders[0], "0")
    for i, folder in enumerate(folders[1:], start=1):
        model.load_adapter(folder, str(i))
    return model


def ours(method: str, *folders: Path) -> dict[str, Tensor]:
    """Deltas by tensor: of one adapter, or the sum of several of weights 1 and -0.5."""
    names = [f"s{i}" for i in range(len(folders))]
    recipe = Recipe.model_validate(
        {
            "base": {"name": "base", "path": str(BASE)},
            "sources": [{"name": n, "path": str(f)} for n, f in zip(names, folders, strict=True)],
            "method": method,
            "weights": {"default": dict.fromkeys(names, 1.0)},
        }
    )
    inputs = open_inputs(recipe)
    weights = torch.tensor([1.0, -0.5][: len(folders)])
    return {
        name: torch.tensordot(weights, inputs.load(name)[1], dims=1) for name in inputs.merged_names
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"down_proj": 2, r"layers\.1\.self_attn\.q_proj": 8}},
        {"alpha_pattern": {"q_proj": 3, "1.mlp.down_proj": 5}},
        {"layers_to_transform": [1]},
        {"target_modules": "all-linear", "exclude_modules": ["k_proj"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"modules_to_save": ["lm_head", "norm"]},
        {"init_lora_weights": "pissa"},
    ],
    ids=str,
)
def test_what_peft_loads_is_what_is_merged(tmp_path: Path, changes: dict[str, Any]) -> None:
    from peft import LoraConfig

    folder = saved(tmp_path / "adapter", LoraConfig(**{**LORA, **changes}))
    theirs = reloaded(folder).merge_and_unload().state_dict()
    before = load_file(BASE / "model.safetensors")
    deltas = ours("task_arithmetic", folder)
    assert any(delta.any() for delta in deltas.values())
    for name, delta in deltas.items():
        torch.testing.assert_close(before[name] + delta, theirs[name], atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("LoraConfig", {"use_dora": True}, "use_dora"),
        ("LoraConfig", {"bias": "all"}, "bias"),
        ("LoraConfig", {"trainable_token_indices": [1, 2]}, "trainable_token_indices"),
        ("LoHaConfig", {}, "an adapter of type 'LOHA'"),
        ("LoKrConfig", {}, "an adapter of type 'LOKR'"),
    ],
)
def test_what_is_more_than_plain_lora_is_refused_by_name(
    tmp_path: Path, kind: str, settings: dict[str, Any], message: str
) -> None:
    import peft

    plain = LORA if kind == "LoraConfig" else {"r": 4, "target_modules": ["q_proj"]}
    folder = saved(tmp_path / "adapter", getattr(peft, kind)(**plain, **settings))
    with pytest.raises(CheckpointError, match=message):
        ours("task_arithmetic", folder)


def test_pefts_cat_is_task_arithmetic_and_its_linear_is_not(tmp_path: Path) -> None:
    from peft import LoraConfig

    folders = [saved(tmp_path / str(i), LoraConfig(**LORA), seed=i) for i in range(2)]
    deltas = ours("task_arithmetic", *folders)
    q_proj = "base_model.model.model.layers.0.self_attn.q_proj"
    for kind in ("cat", "linear"):
        model = reloaded(*folders)
        model.add_weighted_adapter(["0", "1"], [1.0, -0.5], "sum", combination_type=kind)
        found = model.get_submodule(q_proj).get_delta_weight("sum")
        expected = deltas["model.layers.0.self_attn.q_proj.weight"]
        assert torch.allclose(found, expected, atol=2e-6, rtol=0) == (kind == "cat")
