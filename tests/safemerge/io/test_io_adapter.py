"""LoRA folders as sources: PEFT's numbers, and refusals of what is not plain LoRA of this base."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from safemerge import Recipe, ResidentMerge, merge, stored_views
from safemerge.errors import CheckpointError
from safemerge.inputs import open_inputs
from safemerge.io import Adapter, open_checkpoint, open_source

GOLDENS = Path(__file__).parents[2] / "data" / "goldens"
LORA = GOLDENS / "lora"
LLAMA = GOLDENS / "fp32" / "models" / "base"
Q_PROJ = "model.layers.0.self_attn.q_proj"
Change = Callable[[dict[str, Any]], object]


def opened(folder: Path, base: Path = LLAMA, **options: bool) -> Adapter:
    source = open_source(folder, str(folder), open_checkpoint(base), **options)
    assert isinstance(source, Adapter)
    return source


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A copy of a rank-4 adapter of v_proj and o_proj, rank-stabilised."""
    return shutil.copytree(LORA / "rslora", tmp_path / "adapter")


def edit_config(folder: Path, change: Change) -> None:
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def edit_tensors(folder: Path, change: Change) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}  # it maps the file
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def refusal(folder: Path, base: Path = LLAMA, **options: bool) -> str:
    with pytest.raises(CheckpointError) as caught:
        opened(folder, base, **options)
    assert caught.value.exit_code == 2
    return str(caught.value)


def recipe(source: Path, base: Path = LLAMA, **changes: Any) -> Recipe:
    fields: dict[str, Any] = {
        "base": {"name": "base", "path": str(base)},
        "sources": [{"name": "lora", "path": str(source)}],
        "method": "task_arithmetic",
        "weights": {"default": {"lora": 1.0}},
    }
    return Recipe.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("name", "base"), [("llama", LLAMA), ("rslora", LLAMA), ("gpt2", LORA / "gpt2_base")]
)
def test_deltas_equal_what_peft_merges(name: str, base: Path) -> None:
    """Ranks and alphas by module, modules trained whole, an embedding, rsLoRA, Conv1D."""
    source, checkpoint = opened(LORA / name, base), open_checkpoint(base)
    expected = load_file(LORA / f"{name}.merged.safetensors")
    assert expected
    for tensor in checkpoint.tensors:
        before = checkpoint.load(tensor)
        delta = source.delta(tensor, before)
        assert delta.dtype == torch.float32
        if tensor in expected:
            torch.testing.assert_close(before + delta, expected[tensor], atol=1e-6, rtol=0)
        else:
            assert torch.equal(delta, torch.zeros_like(before))


def test_a_merge_of_one_adapter_is_what_peft_merges(tmp_path: Path) -> None:
    one = recipe(LORA / "llama")
    merge(one, tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    for name, expected in load_file(LORA / "llama.merged.safetensors").items():
        torch.testing.assert_close(written[name], expected, atol=1e-6, rtol=0)
    live = dict(ResidentMerge(one).merged(one))
    assert all(torch.equal(live[name], written[name]) for name in written)


def test_low_rank_deltas_are_not_rounded_to_the_base(tmp_path: Path) -> None:
    """base + delta - base in bfloat16 would lose most of a small delta."""
    half = tmp_path / "half"
    shutil.copytree(LLAMA, half)
    tensors = {k: v.bfloat16() for k, v in load_file(LLAMA / "model.safetensors").items()}
    save_file(tensors, half / "model.safetensors", metadata={"format": "pt"})
    full = open_inputs(recipe(LORA / "rslora")).load(f"{Q_PROJ[:-6]}v_proj.weight")[1]
    rounded = open_inputs(recipe(LORA / "rslora", half)).load(f"{Q_PROJ[:-6]}v_proj.weight")[1]
    assert torch.equal(full, rounded)
    assert full.abs().max() > 0


@pytest.mark.parametrize("method", ["task_arithmetic", "resm"])
def test_an_adapter_merges_with_a_whole_model(method: str, tmp_path: Path) -> None:
    """The same adapter as a folder and merged by PEFT gives the same merge."""
    whole = shutil.copytree(LLAMA, tmp_path / "whole")
    tensors = load_file(LLAMA / "model.safetensors")
    tensors |= load_file(LORA / "rslora.merged.safetensors")
    save_file(tensors, whole / "model.safetensors", metadata={"format": "pt"})
    for name, source in (("folder", LORA / "rslora"), ("merged", whole)):
        other = {"name": "a", "path": str(LLAMA.parent / "a")}
        both = {
            "sources": [{"name": "lora", "path": str(source)}, other],
            "weights": {"default": {"lora": 0.7, "a": 0.4}},
            "method": method,
        }
        merge(recipe(source, **both), tmp_path / name / "out")
    one, two = (load_file(tmp_path / n / "out/model.safetensors") for n in ("folder", "merged"))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], atol=2e-6, rtol=0)


def test_the_content_hash_covers_weights_and_scaling(adapter: Path) -> None:
    first = opened(adapter).content_hash()
    edit_config(adapter, lambda c: c.update(peft_version="9", base_model_name_or_path="elsewhere"))
    assert opened(adapter).content_hash() == first
    edit_config(adapter, lambda c: c.update(lora_alpha=7))
    second = opened(adapter).content_hash()
    edit_tensors(adapter, lambda t: next(iter(t.values())).add_(1e-3))
    assert len({first, second, opened(adapter).content_hash()}) == 3


def test_a_pinned_adapter_that_changed_is_refused(adapter: Path, tmp_path: Path) -> None:
    content = open_inputs(recipe(adapter)).contents()["lora"]
    sources = [{"name": "lora", "path": str(adapter), "content": content}]
    digest = merge(recipe(adapter, sources=sources), tmp_path / "good")
    assert len(digest) == 64
    assert content in (tmp_path / "good" / "README.md").read_text()
    edit_config(adapter, lambda c: c.update(lora_alpha=7))
    with pytest.raises(CheckpointError, match="is not what the recipe was made with"):
        merge(recipe(adapter, sources=sources), tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_a_source_as_a_whole_model_is_base_and_delta() -> None:
    inputs = open_inputs(recipe(LORA / "llama"))
    for name, expected in load_file(LORA / "llama.merged.safetensors").items():
        torch.testing.assert_close(inputs.source_tensor(0, name), expected, atol=1e-6, rtol=0)


def test_a_bare_decoder_takes_an_adapter_of_the_model_around_it(tmp_path: Path) -> None:
    bare = shutil.copytree(LORA / "gpt2_base", tmp_path / "bare")
    tensors = load_file(LORA / "gpt2_base" / "model.safetensors")
    short = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(short, bare / "model.safetensors", metadata={"format": "pt"})
    source, name = opened(LORA / "gpt2", bare), "h.0.attn.c_attn.weight"
    expected = load_file(LORA / "gpt2.merged.safetensors")[f"transformer.{name}"]
    found = short[name] + source.delta(name, short[name])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("bias", "all"),
        ("bias", "lora_only"),
        ("lora_bias", True),
        ("trainable_token_indices", [1, 2]),
        ("target_parameters", ["mlp.experts.gate_up_proj"]),
        ("layer_replication", [[0, 1]]),
        ("alora_invocation_tokens", [3]),
        ("use_qalora", True),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "olora"),
        ("init_lora_weights", "loftq"),
        ("use_something_new", {"x": 1}),
    ],
)
def test_more_than_plain_lora_is_refused_by_name(adapter: Path, key: str, value: object) -> None:
    edit_config(adapter, lambda c: c.update({key: value}))
    message = refusal(adapter)
    assert f"sets {key} to {value!r}, which is more than plain LoRA" in message
    assert "merge_and_unload" in message


@pytest.mark.parametrize("kind", ["IA3", "LOHA", "PROMPT_TUNING", None])
def test_another_kind_of_adapter_is_refused_by_name(adapter: Path, kind: str | None) -> None:
    edit_config(adapter, lambda c: c.update(peft_type=kind))
    assert f"is an adapter of type {kind!r}, not LORA" in refusal(adapter)


@pytest.mark.parametrize("value", [False, "gaussian", "orthogonal"])
def test_initialisations_that_leave_the_base_alone_pass(adapter: Path, value: object) -> None:
    before = opened(adapter).content_hash()
    edit_config(adapter, lambda c: c.update(init_lora_weights=value))
    assert opened(adapter).content_hash() == before


@pytest.mark.parametrize(
    "name",
    [
        f"base_model.model.{Q_PROJ}.lora_magnitude_vector",
        f"base_model.model.{Q_PROJ}.lora_B.bias",
        f"{Q_PROJ}.weight",
    ],
)
def test_a_tensor_that_plain_lora_has_not_is_refused(adapter: Path, name: str) -> None:
    edit_tensors(adapter, lambda t: t.update({name: torch.ones(32)}))
    assert f"tensor {name!r} of {adapter} is no part of a plain LoRA adapter" in refusal(adapter)


def test_a_module_that_the_base_lacks_is_refused_with_near_names(adapter: Path) -> None:
    name = "base_model.model.model.layers.0.self_attn.w_proj"
    factors = {
        f"{name}.lora_A.weight": torch.ones(4, 32),
        f"{name}.lora_B.weight": torch.ones(2, 4),
    }
    edit_tensors(adapter, lambda t: t.update(factors))
    message = refusal(adapter)
    assert (
        f"{adapter} does not fit the base {LLAMA}: it has no model.layers.0.self_attn.w_proj"
        in (message)
    )
    assert "did you mean model.layers.0.self_attn.v_proj.weight" in message
    assert "Use an adapter that was trained on this base" in message


def test_shapes_of_another_base_are_refused_with_both(adapter: Path) -> None:
    message = refusal(LORA / "gpt2")
    assert "it has no transformer.h.0.attn.c_attn.weight" in message
    name = f"base_model.model.{Q_PROJ}"
    wide = {f"{name}.lora_A.weight": torch.ones(4, 48), f"{name}.lora_B.weight": torch.ones(32, 4)}
    edit_tensors(adapter, lambda t: t.update(wide))
    assert f"{Q_PROJ}.weight is [32, 32] there, its delta [32, 48] here" in refusal(adapter)


def test_a_whole_tensor_of_another_shape_is_refused(adapter: Path) -> None:
    edit_tensors(
        adapter, lambda t: t.update({"base_model.model.lm_head.weight": torch.ones(97, 32)})
    )
    assert "lm_head.weight is [96, 32] there, [97, 32] here" in refusal(adapter)


def test_factors_that_do_not_multiply_are_refused(adapter: Path) -> None:
    name = f"base_model.model.{Q_PROJ}"
    odd = {f"{name}.lora_A.weight": torch.ones(4, 32), f"{name}.lora_B.weight": torch.ones(32, 3)}
    edit_tensors(adapter, lambda t: t.update(odd))
    message = refusal(adapter)
    assert f"the factors of {Q_PROJ}.weight in {adapter} are [4, 32] and [32, 3], not" in message


def test_one_factor_alone_is_refused(adapter: Path) -> None:
    name = "base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight"
    edit_tensors(adapter, lambda t: t.pop(name))
    assert "v_proj.lora_A.weight' alone of two factors; download it again" in refusal(adapter)


def test_a_rank_that_the_factors_do_not_have_is_refused(adapter: Path) -> None:
    edit_config(adapter, lambda c: c.update(r=8))
    message = refusal(adapter)
    assert (
        "gives model.layers.0.self_attn.o_proj the rank 8, and its factors have rank 4" in message
    )


@pytest.mark.parametrize("value", ["x", None, 0, -1, float("nan"), float("inf")])
def test_an_alpha_that_is_no_positive_number_is_refused(adapter: Path, value: object) -> None:
    edit_config(adapter, lambda c: c.update(lora_alpha=value))
    assert f"lora_alpha of model.layers.0.self_attn.o_proj in {adapter}" in refusal(adapter)
    assert f"is {value!r}; give a positive number" in refusal(adapter)


@pytest.mark.parametrize("patterns", [{"(": 3}, ["q_proj"], "q_proj"])
def test_patterns_that_are_no_patterns_are_refused(adapter: Path, patterns: object) -> None:
    edit_config(adapter, lambda c: c.update(alpha_pattern=patterns))
    assert "alpha_pattern in" in refusal(adapter)
    assert "not a mapping from names of modules to numbers" in refusal(adapter)


def test_integer_factors_are_refused(adapter: Path) -> None:
    name = f"base_model.model.{Q_PROJ}.lora_A.weight"
    edit_tensors(adapter, lambda t: t.update({name: torch.ones(4, 32, dtype=torch.int8)}))
    assert f"tensor {name!r} in" in refusal(adapter)
    assert "has type int8, which cannot be merged" in refusal(adapter)


def test_nan_is_found_when_the_delta_is_computed(adapter: Path) -> None:
    name = "base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight"
    edit_tensors(adapter, lambda t: t[name][0, 0].fill_(float("nan")))
    source, base = opened(adapter), open_checkpoint(LLAMA)
    target = "model.layers.0.self_attn.v_proj.weight"
    with pytest.raises(CheckpointError, match=rf"{name}' in {adapter} holds 1 NaN"):
        source.delta(target, base.load(target))


def tied(folder: Path) -> Path:
    shutil.copytree(LLAMA, folder)
    tensors = load_file(LLAMA / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_head_of_its_own_on_a_tied_base_is_refused(adapter: Path, tmp_path: Path) -> None:
    base = tied(tmp_path / "tied")
    head = torch.randn(96, 32)
    edit_tensors(adapter, lambda t: t.update({"base_model.model.lm_head.weight": head}))
    message = refusal(adapter, base)
    assert (
        f"{adapter} changes lm_head.weight, which is tied to the embedding in the base" in message
    )
    copies = {"base_model.model.model.embed_tokens.weight": head.clone()}
    edit_tensors(adapter, lambda t: t.update(copies))
    assert opened(adapter, base).whole.keys() == {"model.embed_tokens.weight"}


@pytest.mark.parametrize("named", ["org/other", "other/base", "org/base-instruct@main"])
def test_another_repository_than_that_of_a_cached_base_is_refused(
    adapter: Path, tmp_path: Path, named: str
) -> None:
    base = shutil.copytree(LLAMA, tmp_path / "models--org--base" / "snapshots" / "0123abc")
    edit_config(adapter, lambda c: c.update(base_model_name_or_path=named))
    assert f"{adapter} was trained on {named}, and the base is {base}" in refusal(adapter, base)
    edit_config(adapter, lambda c: c.update(base_model_name_or_path="Org/Base"))
    assert opened(adapter, base).pairs


@pytest.mark.parametrize(
    ("named", "said"), [("org/other", True), ("org/BASE", False), (None, False)]
)
def test_a_base_that_cannot_be_told_is_said(
    adapter: Path, caplog: pytest.LogCaptureFixture, named: str | None, said: bool
) -> None:
    edit_config(adapter, lambda c: c.update(base_model_name_or_path=named))
    assert opened(adapter).pairs
    assert (f"trained on {named}; whether that is {LLAMA} cannot be told" in caplog.text) is said


def test_another_folder_as_its_base_is_refused_until_it_is_renamed(
    adapter: Path, tmp_path: Path
) -> None:
    edit_config(adapter, lambda c: c.update(base_model_name_or_path=str(LLAMA.parent / "a")))
    message = refusal(adapter)
    assert f"{adapter} was trained on {LLAMA.parent / 'a'}, and the base is {LLAMA}" in message
    assert f"set base_model_name_or_path to {str(LLAMA)!r} in" in message
    copy = shutil.copytree(LLAMA, tmp_path / "copy")
    nowhere = (str(tmp_path / "was/here/once"), str(tmp_path), "org/somewhere", "")
    for same in (str(copy), str(LLAMA), *nowhere):
        edit_config(adapter, lambda c, same=same: c.update(base_model_name_or_path=same))
        assert opened(adapter).pairs


def test_a_quantised_copy_as_its_base_is_another(adapter: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(LLAMA, tmp_path / "copy-4bit")
    config = json.loads((copy / "config.json").read_text()) | {"quantization_config": {"bits": 4}}
    (copy / "config.json").write_text(json.dumps(config))
    edit_config(adapter, lambda c: c.update(base_model_name_or_path=str(copy)))
    assert f"{adapter} was trained on {copy}, and the base is {LLAMA}" in refusal(adapter)


def test_another_hub_repository_as_its_base_is_refused(adapter: Path) -> None:
    base = open_checkpoint(LLAMA)
    for named, fits in (("Org/Llama@v2", True), ("org/other", False)):
        edit_config(adapter, lambda c, named=named: c.update(base_model_name_or_path=named))
        hub = type(base)(base.folder, "org/llama@main", base.config, base.tensors, base.tied)
        if fits:
            open_source(adapter, "x", hub)
        else:
            with pytest.raises(CheckpointError, match="was trained on org/other, and the base is"):
                open_source(adapter, "x", hub)


def test_a_pickled_adapter_needs_permission(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    before = opened(adapter).content_hash()
    (adapter / "adapter_model.safetensors").unlink()
    assert "has adapter_config.json and no adapter_model.safetensors" in refusal(adapter)
    torch.save(tensors, adapter / "adapter_model.bin")
    assert "has its weights in .bin pickles, which can run code" in refusal(adapter)
    assert opened(adapter, allow_pickle=True).content_hash() == before


def test_an_adapter_without_tensors_is_refused(adapter: Path) -> None:
    save_file({}, adapter / "adapter_model.safetensors")
    assert f"{adapter} holds no tensors" in refusal(adapter)


def test_damaged_and_foreign_files_are_refused(adapter: Path, tmp_path: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    os.truncate(file, file.stat().st_size - 10)
    assert "adapter_model.safetensors is truncated" in refusal(adapter)
    outside = file.rename(tmp_path / "outside")
    file.symlink_to(outside)
    assert "outside the checkpoint folder" in refusal(adapter)
    (adapter / "adapter_config.json").write_text("{")
    assert "adapter_config.json is not JSON" in refusal(adapter)


def test_a_model_beside_the_adapter_is_the_source(adapter: Path) -> None:
    """Trainers leave adapter files beside the model that they merged."""
    for file in LLAMA.iterdir():
        shutil.copy(file, adapter)
    assert not isinstance(open_source(adapter, "x", open_checkpoint(LLAMA)), Adapter)


def test_an_adapter_is_live_what_it_is_on_disk(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    one = recipe(LORA / "gpt2", LORA / "gpt2_base")
    merge(one, tmp_path / "out")
    resident = ResidentMerge(one)
    live = AutoModelForCausalLM.from_pretrained(LORA / "gpt2_base")
    resident.apply(one, stored_views(live, resident.names))
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(tensor, written[name]) for name, tensor in live.state_dict().items())
