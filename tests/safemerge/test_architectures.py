"""Decoders as transformers saves them: merged on disk, merged live, loaded again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import safemerge.live
from safemerge import Recipe, ResidentMerge, merge, stored_views
from safemerge.errors import CheckpointError, RecipeError
from safemerge.inputs import open_inputs
from safemerge.io import open_checkpoint
from safemerge.live import LiveGradient

VOCABULARY = 48
TOKENS = torch.arange(3, 15).reshape(2, 6)
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"head_dim": 4, "num_experts_per_tok": 2}
# model type -> what differs from SMALL. Untied and biased, tied, fused, transposed, mixtures.
DECODERS: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False, "attention_bias": True},
    "mistral": {},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 4},
    "gemma3_text": {"head_dim": 4},
    "phi3": {},
    "gpt2": {},
    "gpt_neox": {},
    "mixtral": {**EXPERTS, "num_local_experts": 3},
    "qwen3_moe": {**EXPERTS, "num_experts": 3, "moe_intermediate_size": 12},
    "gpt_oss": {**EXPERTS, "num_local_experts": 3},
}
Family = Callable[[str], Path]


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A folder with base, a and b of a model type: the first in shards, the others its tunes."""
    made: dict[str, Path] = {}

    def build(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            model = random_model(kind)
            model.save_pretrained(made[kind] / "base", max_shard_size="30KB")
            for seed, name in enumerate("ab"):
                tuned = random_model(kind)
                generator = torch.Generator().manual_seed(seed)
                with torch.no_grad():
                    for parameter in tuned.parameters():
                        noise = torch.randn(parameter.shape, generator=generator)
                        parameter.add_(0.05 * noise)
                tuned.save_pretrained(made[kind] / name)
        return made[kind]

    return build


def random_model(kind: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**SMALL, **DECODERS[kind]})
    return AutoModelForCausalLM.from_config(config)


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return model.eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(TOKENS).logits
    return found


def recipe(
    folder: Path, method: str, sources: tuple[str, str] = ("a", "b"), **changes: Any
) -> Recipe:
    fields: dict[str, Any] = {
        "base": {"name": "base", "path": str(folder / "base")},
        "sources": [
            {"name": name, "path": str(folder / file)}
            for name, file in zip("ab", sources, strict=True)
        ],
        "method": method,
        "places": "modules",
        "weights": {"default": {"a": 0.7, "b": 0.3}},
    }
    return Recipe.model_validate(fields | changes)


@pytest.mark.parametrize("method", ["task_arithmetic", "resm"])
@pytest.mark.parametrize("kind", DECODERS)
def test_a_merge_of_identical_models_is_the_model(
    kind: str, method: str, family: Family, tmp_path: Path
) -> None:
    folder = family(kind)
    merge(recipe(folder, method, ("base", "base")), tmp_path / "out")
    assert torch.equal(logits(load(tmp_path / "out")), logits(load(folder / "base")))


@pytest.mark.parametrize("method", ["task_arithmetic", "resm"])
@pytest.mark.parametrize("kind", DECODERS)
def test_the_live_merge_is_the_written_one(
    kind: str, method: str, family: Family, tmp_path: Path
) -> None:
    folder = family(kind)
    one = recipe(folder, method)
    merge(one, tmp_path / "out")
    resident = ResidentMerge(one)
    live = load(folder / "base")
    before = logits(live)
    resident.apply(one, stored_views(live, resident.names))
    written = load(tmp_path / "out")
    for name, tensor in written.state_dict().items():
        assert torch.equal(live.state_dict()[name], tensor), name
    assert torch.equal(logits(live), logits(written))
    assert not torch.allclose(logits(live), before)


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("kind", ["gpt2", "mixtral"])
def test_a_live_model_gives_the_slope_of_its_loss_in_the_weights(
    kind: str, recomputed: bool, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    if recomputed:
        monkeypatch.setattr(safemerge.live, "RECOMPUTE_FROM_PARAMETERS", 0)
    one = recipe(family(kind), "task_arithmetic", places="global")
    resident = ResidentMerge(one)
    model = load(family(kind) / "base")
    views = stored_views(model, resident.names)
    step = {"a": 1e-2, "b": -2e-2}

    def loss(share: float) -> torch.Tensor:
        moved = {name: one.weights["default"][name] + share * step[name] for name in step}
        resident.apply(one.model_copy(update={"weights": {"default": moved}}), views)
        return logits(model).square().mean()

    slope = (loss(1.0) - loss(-1.0)) / 2
    with LiveGradient(model, resident).at(one) as gradient:
        for _ in range(2):  # backward passes add up
            model(TOKENS).logits.square().mean().backward()
    torch.testing.assert_close(
        gradient @ torch.tensor([step["a"], step["b"]]), 2 * slope[None], rtol=2e-2, atol=1e-7
    )
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())


def test_a_bare_decoder_with_masks_merges_live_and_on_disk(family: Family, tmp_path: Path) -> None:
    """The first GPT-2's names: no `transformer.` in front, and masks among the weights."""
    folder = family("gpt2")
    for name in ("base", "a"):
        stored = open_checkpoint(folder / name)
        bare = {key.removeprefix("transformer."): stored.load(key) for key in stored.tensors}
        if name == "base":
            bare["h.0.attn.bias"] = torch.ones(1, 1, 32, 32).tril()
        (tmp_path / name).mkdir()
        save_file(bare, tmp_path / name / "model.safetensors", metadata={"format": "pt"})
        config = (folder / name / "config.json").read_text()
        (tmp_path / name / "config.json").write_text(config)
    one = recipe(tmp_path, "resm", ("a", "a"))
    merge(one, tmp_path / "out")
    resident = ResidentMerge(one)
    assert "h.0.attn.bias" not in resident.names
    written = load_file(tmp_path / "out/model.safetensors")
    assert torch.equal(written["h.0.attn.bias"], torch.ones(1, 1, 32, 32).tril())
    live = load(folder / "base")
    resident.apply(one, stored_views(live, resident.names))
    head = "transformer.h.1.mlp.c_fc.weight"
    assert torch.equal(live.state_dict()[head], written[head.removeprefix("transformer.")])


def test_parts_of_another_model_are_refused_by_name(family: Family) -> None:
    inputs = open_inputs(recipe(family("mixtral"), "task_arithmetic"))
    with pytest.raises(CheckpointError, match=r"no part of a parameter of the live Qwen3Moe"):
        stored_views(random_model("qwen3_moe"), inputs.merged_names)


def test_a_tensor_that_is_computed_from_parameters_is_refused(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers.core_model_loading as loading

    model = random_model("llama")

    def copies(model: object, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor * 2 for name, tensor in state.items()}

    monkeypatch.setattr(loading, "revert_weight_conversion", copies)
    with pytest.raises(CheckpointError, match="it is computed from parameters"):
        stored_views(model, ["model.norm.weight"])


def test_a_live_tensor_of_another_shape_is_refused_before_any_change(family: Family) -> None:
    one = recipe(family("llama"), "task_arithmetic")
    resident = ResidentMerge(one)
    live = stored_views(load(family("llama") / "base"), resident.names)
    name = resident.names[-1]
    before = live[resident.names[0]].clone()
    narrow = {**live, name: live[name][:1]}
    with pytest.raises(RecipeError, match=rf"{name}' is \[1.* in the live model and"):
        resident.apply(one, narrow)
    assert torch.equal(live[resident.names[0]], before)
