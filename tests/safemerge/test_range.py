"""A result beyond the range of its dtype is refused by name and value, wherever it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from safemerge import Recipe, ResidentMerge, merge
from safemerge.errors import RecipeError
from safemerge.inputs import open_inputs

W, MASK = "model.layers.0.mlp.up_proj.weight", "h.0.attn.masked_bias"


def write(folder: Path, tensors: Mapping[str, Tensor]) -> Path:
    folder.mkdir()
    save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "tiny"}))
    return folder


def full(value: float, dtype: torch.dtype = torch.float32) -> Tensor:
    tensor = torch.ones(4, 6, dtype=dtype)
    tensor[1, 2] = value
    return tensor


def recipe(base: Path, source: Path, **changes: Any) -> Recipe:
    fields = {
        "base": {"name": "base", "path": str(base)},
        "sources": [{"name": "a", "path": str(source)}],
        "method": "task_arithmetic",
        "weights": {"default": {"a": 1.0}},
    }
    return Recipe.model_validate(fields | changes)


def refused(made: Recipe, out: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        merge(made, out)
    assert caught.value.exit_code == 2
    assert not any(out.parent.glob("*out*"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("base", "source", "changes", "value"),
    [
        (full(1e5, torch.bfloat16), full(1.1e5, torch.bfloat16), {"dtype": "float16"}, "110080"),
        (full(6e4, torch.float16), full(6.5e4, torch.float16), {"params": {"scale": 2.0}}, "69984"),
        (
            full(6e4, torch.float16),
            full(6.5e4, torch.float16),
            {"weights": {"default": {"a": 1.5}}},
            "67488",
        ),
        (full(1e5), full(1.0), {"dtype": "float16", "weights": {"default": {"a": 0.0}}}, "100000"),
    ],
    ids=["a narrower dtype", "the scale", "a weight", "no change at all"],
)
def test_a_merge_beyond_float16_is_refused(
    tmp_path: Path, base: Tensor, source: Tensor, changes: dict[str, Any], value: str
) -> None:
    inputs = write(tmp_path / "base", {W: base}), write(tmp_path / "a", {W: source})
    text = refused(recipe(*inputs, **changes), tmp_path / "out")
    assert f"the merged tensor {W!r} has 1 values that float16 cannot hold, such as {value}" in text
    assert "its range ends at 65504" in text
    assert "write it as bfloat16 or float32 (dtype), or take smaller weights" in text


@pytest.mark.parametrize("method", ["ties", "tsvm", "slerp", "model_stock"])
def test_no_method_writes_infinity(tmp_path: Path, method: str) -> None:
    tensors = [torch.randn(4, 6, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    folders = [write(tmp_path / str(i), {W: 9e4 * tensor}) for i, tensor in enumerate(tensors)]
    sources = [{"name": name, "path": str(f)} for name, f in zip("ab", folders[1:], strict=True)]
    made = recipe(
        folders[0],
        folders[1],
        sources=sources,
        method=method,
        weights={"default": {"a": 1.0, "b": 1.0}},
        dtype="float16",
    )
    assert f"the merged tensor {W!r} has" in refused(made, tmp_path / "out")


@pytest.mark.parametrize("weight", [1e30, 3e38])
def test_beyond_float32_the_advice_is_not_another_dtype(tmp_path: Path, weight: float) -> None:
    base, source = write(tmp_path / "base", {W: full(1.0)}), write(tmp_path / "a", {W: full(1e10)})
    text = refused(recipe(base, source, weights={"default": {"a": weight}}), tmp_path / "out")
    assert "1 values that float32 cannot hold, such as inf" in text
    assert "dtype" not in text


@pytest.mark.parametrize("mask", [-1e9, -7e4, 7e4])
def test_a_tensor_that_is_only_cast_is_refused_too(tmp_path: Path, mask: float) -> None:
    tensors = {W: full(2.0), MASK: torch.tensor(mask)}
    base, source = write(tmp_path / "base", tensors), write(tmp_path / "a", tensors)
    text = refused(recipe(base, source, dtype="float16"), tmp_path / "out")
    assert f"{MASK!r} has 1 values that float16 cannot hold, such as {mask:g}" in text


def test_a_mask_that_was_infinite_before_is_passed_through(tmp_path: Path) -> None:
    tensors = {W: full(2.0), MASK: torch.tensor(float("-inf"))}
    base, source = write(tmp_path / "base", tensors), write(tmp_path / "a", tensors)
    merge(recipe(base, source, dtype="float16"), tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors")[MASK] == float("-inf")


@pytest.mark.parametrize("live", [torch.float16, torch.float32])
@pytest.mark.parametrize(
    "changes", [{"params": {"scale": 2.0}}, {"weights": {"default": {"a": 3}}}]
)
def test_a_live_model_is_not_given_infinity_in_silence(
    tmp_path: Path, live: torch.dtype, changes: dict[str, Any]
) -> None:
    base = write(tmp_path / "base", {W: full(6e4, torch.float16)})
    made = recipe(base, write(tmp_path / "a", {W: full(6.5e4, torch.float16)}))
    resident, model = ResidentMerge(made), {W: torch.zeros(4, 6, dtype=live)}
    resident.apply(made, model)
    assert model[W][1, 2] == 64992  # the nearest of float16
    with pytest.raises(RecipeError, match=re.escape(f"the merged tensor {W!r} has 1 values that")):
        resident.apply(recipe(base, tmp_path / "a", **changes), model)
    with pytest.raises(RecipeError, match="float16 cannot hold"):
        list(resident.merged(recipe(base, tmp_path / "a", **changes)))


def test_an_adapter_beyond_the_bases_range_is_no_model(tmp_path: Path) -> None:
    base = write(tmp_path / "base", {W: full(6e4, torch.float16)})
    adapter = tmp_path / "lora"
    adapter.mkdir()
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    module = f"base_model.model.{W.removesuffix('.weight')}"
    factors = {f"{module}.lora_A.weight": torch.full((1, 6), 100.0)}
    factors[f"{module}.lora_B.weight"] = torch.full((4, 1), 100.0)
    save_file(factors, adapter / "adapter_model.safetensors")
    inputs = open_inputs(recipe(base, adapter))
    with pytest.raises(RecipeError, match=r"has 1 values that float16 cannot hold, such as 70000"):
        inputs.source_tensor(0, W)
