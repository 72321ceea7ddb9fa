"""Checkpoints that were saved through a wrapper of training code are read as the model inside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from safemerge import Recipe, merge
from safemerge.errors import CheckpointError
from safemerge.io import Adapter, open_checkpoint, open_source

Rename = Callable[[str], str]
GOLDENS = Path(__file__).parents[2] / "data" / "goldens"
BASE, SOURCE = (GOLDENS / "fp32" / "models" / name for name in ("base", "a"))


def _first_layer(wrapper: str) -> Rename:
    return lambda name: name.replace("layers.0.", f"layers.0.{wrapper}.")


WRAPPERS: dict[str, Rename] = {
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "torch.compile of one layer": _first_layer("_orig_mod"),
    "DDP": lambda name: f"module.{name}",
    "DDP of a compiled model": lambda name: f"module._orig_mod.{name}",
    "compile of a DDP model": lambda name: f"_orig_mod.module.{name}",
    "FSDP": lambda name: f"_fsdp_wrapped_module.{_first_layer('_fsdp_wrapped_module')(name)}",
    "activation checkpointing": _first_layer("_checkpoint_wrapped_module"),
    "Lightning": lambda name: f"model.{name}",
    "PEFT": lambda name: f"base_model.model.{name}",
}


def rename(folder: Path, change: Rename) -> Path:
    """Give the tensors of a one-file folder other names."""
    (path,) = folder.glob("*model.safetensors")
    tensors = {change(name): tensor.clone() for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_a_wrapped_model_is_the_model(golden: Path, wrapper: Rename) -> None:
    plain = open_checkpoint(BASE)
    wrapped = open_checkpoint(rename(golden, wrapper))
    assert wrapped.tensors.keys() == plain.tensors.keys()
    assert wrapped.tied == plain.tied
    assert wrapped.content_hash() == plain.content_hash()
    for name in plain.tensors:
        assert torch.equal(wrapped.load(name), plain.load(name))


def test_a_wrapped_source_merges_as_the_plain_one_does(golden: Path, tmp_path: Path) -> None:
    rename(golden, WRAPPERS["torch.compile"])

    def merged(base: Path, source: Path, out: Path) -> dict[str, torch.Tensor]:
        recipe = {
            "base": {"name": "base", "path": str(base)},
            "sources": [{"name": "a", "path": str(source)}],
            "method": "task_arithmetic",
            "weights": {"default": {"a": 0.5}},
        }
        merge(Recipe.from_json(json.dumps(recipe)), out)
        return load_file(out / "model.safetensors")

    wrapped, plain = merged(golden, SOURCE, tmp_path / "w"), merged(BASE, SOURCE, tmp_path / "p")
    assert wrapped.keys() == plain.keys()
    assert all(torch.equal(wrapped[name], plain[name]) for name in plain)


def test_a_tied_model_whose_names_all_begin_with_model_keeps_them(llama: Path) -> None:
    assert "model.embed_tokens.weight" in open_checkpoint(llama).tensors


def test_names_that_only_resemble_a_wrapper_stay(make: Callable[..., Path]) -> None:
    names = ["module.w", "my_orig_mod.w", "model.module.w"]
    folder = make("near", {name: torch.ones(1) for name in names})
    assert sorted(open_checkpoint(folder).tensors) == sorted(names)


def test_a_name_with_and_without_its_wrapper_is_refused(golden: Path) -> None:
    path = golden / "model.safetensors"
    tensors = load_file(path)
    double = {"_orig_mod.lm_head.weight": tensors["lm_head.weight"] + 1}
    save_file(tensors | double, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"holds '_orig_mod\.lm_head\.weight' and 'lm_head"):
        open_checkpoint(golden)


@pytest.mark.parametrize("name", ["_flat_param", "layers.0._fsdp_wrapped_module._flat_param"])
def test_pieces_that_fsdp_has_cut_are_refused(make: Callable[..., Path], name: str) -> None:
    with pytest.raises(CheckpointError, match=r"FSDP's flattened pieces .* gather the full state"):
        open_checkpoint(make("flat", {name: torch.ones(8)}))


@pytest.mark.parametrize(
    "wrapper",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: name.replace("base_model.model.", "base_model.model._orig_mod."),
        lambda name: f"module.{name}",
        _first_layer("_orig_mod"),
        lambda name: name.replace(".weight", ".default.weight"),
    ],
    ids=["compiled PEFT", "PEFT of a compiled model", "DDP", "a layer", "a state dict of PEFT's"],
)
def test_a_wrapped_adapter_has_the_deltas_of_the_plain_one(tmp_path: Path, wrapper: Rename) -> None:
    base = open_checkpoint(BASE)

    def opened(folder: Path) -> Adapter:
        source = open_source(folder, str(folder), base)
        assert isinstance(source, Adapter)
        return source

    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in (GOLDENS / "lora" / "rslora").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    wrapped, plain = opened(rename(folder, wrapper)), opened(GOLDENS / "lora" / "rslora")
    assert wrapped.pairs.keys() == plain.pairs.keys() != set()
    for name in plain.pairs:
        values = base.load(name)
        assert torch.equal(wrapped.delta(name, values), plain.delta(name, values))
