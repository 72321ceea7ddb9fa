"""Mixtures: what they compute, what they are made of, what is refused, what is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from safemerge.errors import CheckpointError, OutputError, RecipeError
from safemerge.fusion.export import export_model
from safemerge.fusion.mixture import MixturePlan, build_mixture, experts_of, mixture_layers
from safemerge.inputs import Inputs, open_inputs
from safemerge.io import CardRecord
from safemerge.recipe import ModelRef, Recipe

TOKENS = torch.arange(3, 27).reshape(2, 12)
SMALL: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True},
    "mistral": {"sliding_window": 4},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
}
Family = Callable[..., dict[str, Path]]


@pytest.fixture
def family(tmp_path: Path) -> Family:
    """Folders of a base and three sources of a model type."""

    def build(kind: str, folder: str = "", **changes: Any) -> dict[str, Path]:
        from transformers import AutoConfig, AutoModelForCausalLM

        folders = {}
        for seed, name in enumerate(("base", "a", "b", "c")):
            torch.manual_seed(seed)
            config = AutoConfig.for_model(kind, **{**SMALL, **FAMILIES.get(kind, {}), **changes})
            model = AutoModelForCausalLM.from_config(config)
            for parameter in model.parameters():  # biases and norms too
                parameter.data.add_(0.3 * torch.randn_like(parameter))
            folders[name] = tmp_path / (folder or kind) / name
            model.save_pretrained(folders[name])
        return folders

    return build


def opened(folders: dict[str, Path], *sources: str) -> Inputs:
    refs = tuple(
        ModelRef(name=f"{name}{i}" if sources.count(name) > 1 else name, path=str(folders[name]))
        for i, name in enumerate(sources)
    )
    base = ModelRef(name="the_base", path=str(folders["base"]))
    return open_inputs(Recipe(base=base, sources=refs, method="linear", weights={"default": {}}))


def plan(**changes: Any) -> MixturePlan:
    return MixturePlan(**{"anchor": "the_base", **changes})


def dense(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model.eval()(TOKENS).logits
    return found


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_of_copies_of_one_model_is_that_model(family: Family, kind: str, top_k: int) -> None:
    """Whatever the router says: its weights sum to 1, and all settings came along."""
    folders = family(kind)
    mixture = build_mixture(opened(folders, "a", "a", "a"), plan(anchor="a0", top_k=top_k))
    torch.testing.assert_close(logits(mixture), logits(dense(folders["a"])), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_layer_is_the_formula(family: Family, kind: str) -> None:
    folders = family(kind)
    mixture = build_mixture(opened(folders, "a", "b", "c"), plan(top_k=2))
    h = torch.randn(1, 7, SMALL["hidden_size"])
    layer = mixture_layers(mixture)[1]
    p = (h @ layer.gate.weight.T).softmax(-1)
    p = torch.where(p >= p.topk(2).values[..., -1:], p, 0.0)
    p = p / p.sum(-1, keepdim=True)
    with torch.no_grad():
        each = [dense(folders[name]).model.layers[1].mlp(h) for name in ("a", "b", "c")]
        wanted = sum(p[..., e : e + 1] * out for e, out in enumerate(each))
        torch.testing.assert_close(layer(h), wanted, atol=1e-5, rtol=1e-4)


def test_attention_is_the_anchors(family: Family) -> None:
    folders = family("qwen3")
    inputs = opened(folders, "a", "b")
    recipe = Recipe(
        base=inputs.base_ref,
        sources=inputs.refs[1:],
        method="task_arithmetic",
        weights={"default": {"a": 0.5, "b": 0.25}},
    )
    name = "model.layers.0.self_attn.q_proj.weight"
    q = {key: dense(folder).state_dict()[name] for key, folder in folders.items()}
    merged = q["base"] + 0.5 * (q["a"] - q["base"]) + 0.25 * (q["b"] - q["base"])
    for anchor, wanted in (("the_base", q["base"]), ("b", q["b"]), (recipe, merged)):
        built = build_mixture(inputs, plan(anchor=anchor)).state_dict()[name]
        torch.testing.assert_close(built, wanted)


@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_keeps_its_scale(family: Family, tmp_path: Path, rslora: bool) -> None:
    peft = pytest.importorskip("peft")
    folders = family("llama")
    config = peft.LoraConfig(
        r=4, lora_alpha=6, use_rslora=rslora, target_modules=["up_proj"], init_lora_weights=False
    )
    torch.manual_seed(5)
    wrapped = peft.get_peft_model(dense(folders["base"]), config)
    folders["lora"] = tmp_path / "lora"
    wrapped.save_pretrained(folders["lora"])
    wanted = wrapped.merge_and_unload().model.layers[0].mlp.up_proj.weight
    mixture = build_mixture(opened(folders, "a", "lora"), plan())
    up = mixture_layers(mixture)[0].experts.gate_up_proj[1].chunk(2)[1]
    torch.testing.assert_close(up, wanted)


def test_experts_share_no_storage(family: Family) -> None:
    """Not even where two sources are one folder, and not with what the inputs hold."""
    inputs = opened(family("llama"), "a", "a", "b")
    for name in inputs.merged_names:
        inputs.hold(name)
    before = build_mixture(inputs, plan())
    changed = build_mixture(inputs, plan())
    for parameter in experts_of(changed):
        parameter.data[0] += 1.0
    again = build_mixture(inputs, plan())
    for was, now, fresh in zip(*map(experts_of, (before, changed, again)), strict=True):
        assert torch.equal(was[1:], now[1:])
        assert torch.equal(was, fresh)


def test_the_router_is_of_the_seed(family: Family) -> None:
    inputs = opened(family("llama"), "a", "b")
    first, same, other = (
        mixture_layers(build_mixture(inputs, plan(seed=seed)))[0].gate.weight for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_export_is_the_mixture(family: Family, kind: str, tmp_path: Path) -> None:
    folders = family(kind)
    (folders["base"] / "generation_config.json").write_text('{"eos_token_id": [7, 9]}')
    (folders["base"] / "chat_template.jinja").write_text("{{ messages }}")
    inputs = opened(folders, "a", "b", "c")
    mixture = build_mixture(inputs, plan())
    out = tmp_path / "out"
    export_model(mixture, inputs.base, out, card())
    torch.testing.assert_close(logits(dense(out)), logits(mixture), atol=1e-5, rtol=0)
    for name in ("generation_config.json", "chat_template.jinja"):
        assert (out / name).read_text() == (folders["base"] / name).read_text()
    with pytest.raises(OutputError, match="is not empty"):
        export_model(mixture, inputs.base, out, card())


def card() -> CardRecord:
    return CardRecord(title="t", base="b", sources=(), method="h3fusion", recipe_json="{}")


def test_refusals_of_a_plan(family: Family) -> None:
    folders = family("llama")
    with pytest.raises(RecipeError, match="at least two sources, and there is 1"):
        build_mixture(opened(folders, "a"), plan())
    for top_k in (0, 3):
        with pytest.raises(RecipeError, match=f"top_k is {top_k} of 2 experts"):
            build_mixture(opened(folders, "a", "b"), plan(top_k=top_k))
    with pytest.raises(RecipeError, match=r"anchor 'aa' is no model; did you mean a\?"):
        build_mixture(opened(folders, "a", "b"), plan(anchor="aa"))


def test_refusals_of_sources(family: Family) -> None:
    folders = family("llama")
    for changes in ({"intermediate_size": 32}, {"num_hidden_layers": 3}):
        other = family("llama", f"other {changes}", **changes)["a"]
        with pytest.raises(CheckpointError, match="does not fit the base"):
            opened({**folders, "b": other}, "a", "b")
    mistral = family("mistral", tie_word_embeddings=True)["a"]
    with pytest.raises(CheckpointError, match=r"architecture 'mistral' and the base .* of 'llama'"):
        build_mixture(opened({**folders, "b": mistral}, "a", "b"), plan())


@pytest.mark.parametrize(
    ("kind", "changes", "text"),
    [
        (
            "gpt_neox",
            {},
            "no mixture architecture for 'gpt_neox'; .*: llama, mistral, qwen2, qwen3",
        ),
        ("llama", {"attention_bias": True}, "has no place for the tensor .*k_proj.bias"),
        ("llama", {"mlp_bias": True}, "has no place for the tensor .*down_proj.bias"),
        ("qwen3", {"use_sliding_window": True}, "sliding and of full attention"),
    ],
)
def test_refusals_of_architectures(
    family: Family, kind: str, changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(CheckpointError, match=text):
        build_mixture(opened(family(kind, **changes), "a", "b"), plan())
