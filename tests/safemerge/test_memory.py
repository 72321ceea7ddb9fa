"""What a search holds: sources as stored, factors of adapters, the same numbers wherever it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from examples import TABLE, WEIGHTS, n_sources, required
from safetensors.torch import load_file, save_file
from torch import Tensor

from safemerge import ModelRef, Recipe, ResidentMerge, merge
from safemerge.factors import factorise
from safemerge.inputs import open_inputs
from safemerge.io import open_checkpoint
from safemerge.low_rank import LowRank
from safemerge.store import TensorStore

MATRIX = "model.layers.0.mlp.up_proj.weight"
FROZEN = "model.embed_tokens.weight"
METHODS_WITHOUT_FILES = [m for m in TABLE.values() if not m.needs_importance]
# What is kept or dropped hangs on the last digit of an entry.
SMOOTH = [m for m in METHODS_WITHOUT_FILES if "density" not in m.per_source]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, adapters `lora-*` of rank 4, and the same as whole models `full-*`, in float32."""
    folder = tmp_path_factory.mktemp("models")
    random = torch.Generator().manual_seed(0)
    shapes = {MATRIX: (48, 40), MATRIX.replace("up", "down"): (40, 48), FROZEN: (64, 40)}
    base = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    base["model.norm.weight"] = torch.randn(40, generator=random)
    write(folder / "base", base)
    for source in "abc":
        adapter, whole = {}, dict(base)
        for name in list(shapes)[:2]:
            out, into = shapes[name]
            b, a = (0.1 * torch.randn(s, generator=random) for s in ((out, 4), (4, into)))
            module = f"base_model.model.{name.removesuffix('.weight')}"
            adapter |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
            whole[name] = base[name] + 2.0 * b @ a
        write(folder / f"full-{source}", whole)
        lora = folder / f"lora-{source}"
        lora.mkdir()
        save_file(adapter, lora / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["up_proj"]}
        (lora / "adapter_config.json").write_text(json.dumps(config))
    return folder


def write(folder: Path, tensors: dict[str, Tensor]) -> None:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    save_file(tensors, folder / "model.safetensors")


def recipe(models: Path, method: str, kind: str, **params: Any) -> Recipe:
    names = "abc"[: n_sources(TABLE[method])]
    fields = {
        "base": ModelRef(name="base", path=str(models / "base")),
        "sources": [ModelRef(name=n, path=str(models / f"{kind}-{n}")) for n in names],
        "method": method,
        "params": required(TABLE[method]) | params,
        "weights": {"default": dict(zip(names, WEIGHTS, strict=False))},
        "rank_ratio": {"default": 0.1} if TABLE[method].spectral else {},
    }
    return Recipe.model_validate(fields)


@pytest.mark.parametrize("method", SMOOTH, ids=lambda method: method.name)
def test_factors_merge_as_the_whole_models_that_they_make(method: Any, models: Path) -> None:
    low, full = (recipe(models, method.name, kind) for kind in ("lora", "full"))
    expected = dict(ResidentMerge(full).merged(full))
    for name, tensor in ResidentMerge(low).merged(low):
        torch.testing.assert_close(tensor, expected[name], atol=2e-4, rtol=0)


@pytest.mark.parametrize("method", METHODS_WITHOUT_FILES, ids=lambda method: method.name)
@pytest.mark.parametrize("memory", ["device", "host", "disk"])
def test_adapters_merge_to_the_same_bytes_streamed_and_held(
    method: Any, memory: Any, models: Path, tmp_path: Path
) -> None:
    one = recipe(models, method.name, "lora")
    merge(one, tmp_path / "out")
    written = load_file(tmp_path / "out/model.safetensors")
    live = load_file(models / "full-a" / "model.safetensors")
    store = TensorStore(tmp_path / "store")
    ResidentMerge(one, memory=memory, store=store).apply(one, live)
    assert all(torch.equal(live[name], tensor) for name, tensor in written.items())


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "resm", "iso_c", "dare_ties"])
def test_whole_models_merge_to_the_same_bytes_wherever_they_are_held(
    method: str, models: Path, tmp_path: Path
) -> None:
    one, store = recipe(models, method, "full"), TensorStore(tmp_path)
    expected = dict(ResidentMerge(one).merged(one))
    for memory in ("device", "host", "disk", "device"):
        resident = ResidentMerge(one, memory=memory, store=store)
        for _ in range(2):
            for name, tensor in resident.merged(one):
                assert torch.equal(tensor, expected[name])


def test_a_tensor_that_no_adapter_changes_is_neither_held_nor_written_twice(models: Path) -> None:
    one = recipe(models, "resm", "lora")
    inputs = open_inputs(one)
    resident = ResidentMerge(one, inputs=inputs)
    assert FROZEN not in resident.changed
    assert not inputs.base.holds(FROZEN)
    live = load_file(models / "base/model.safetensors")
    live[FROZEN].zero_()
    resident.apply(one, live)
    assert torch.equal(live[FROZEN], open_checkpoint(models / "base").load(FROZEN))
    version = live[FROZEN]._version
    resident.apply(one, live)
    assert live[FROZEN]._version == version
    live[FROZEN].zero_()  # by somebody else
    resident.apply(one, live)
    assert torch.equal(live[FROZEN], open_checkpoint(models / "base").load(FROZEN))


def test_merges_of_the_same_inputs_hold_them_once_and_as_they_are_stored(models: Path) -> None:
    one = recipe(models, "task_arithmetic", "full")
    inputs = open_inputs(one)
    ResidentMerge(one, inputs=inputs)
    held = inputs.sources[0].stored
    tensor = held.load(MATRIX)
    pair = inputs.only(one.sources[:2])
    assert pair is not None
    other = one.model_copy(update={"sources": one.sources[:2], "method": "linear"})
    ResidentMerge(other, inputs=pair)
    assert pair.sources[0].stored.load(MATRIX) is tensor
    # A tensor that training left alone is the base's.
    assert held.load(FROZEN) is inputs.base.load(FROZEN)


def test_gradients_of_factors_are_those_of_the_whole_models(models: Path) -> None:
    for method in ("task_arithmetic", "linear", "model_stock", "resm"):
        found = []
        for kind in ("lora", "full"):
            one = recipe(models, method, kind)
            gradient = torch.randn(48, 40, generator=torch.Generator().manual_seed(1))
            found.append(ResidentMerge(one).weight_gradient(MATRIX, one, gradient)[1])
        torch.testing.assert_close(*found, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("shape", [(48, 4, 40), (3, 5, 40), (48, 50, 40), (6, 0, 7)])
def test_a_product_is_factorised_as_the_matrix_that_it_is(shape: tuple[int, int, int]) -> None:
    out, rank, into = shape
    random = torch.Generator().manual_seed(0)
    product = LowRank(*(torch.randn(s, generator=random) for s in ((out, rank), (rank, into))))
    whole = product.dense()
    factors = factorise(product)
    torch.testing.assert_close((factors.u * factors.s) @ factors.v.T, whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(factors.s, torch.linalg.svdvals(whole)[: len(factors.s)])
    torch.testing.assert_close(product.norm().float(), whole.norm())
    in_pieces = torch.cat([*product.pieces(7)]).reshape(out, into)
    torch.testing.assert_close(in_pieces, whole, atol=1e-5, rtol=0)
    left, right = torch.randn(2, out), torch.randn(into, 2)
    torch.testing.assert_close(left @ product @ right, left @ whole @ right, atol=1e-3, rtol=1e-3)
