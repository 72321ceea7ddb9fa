"""Models are loaded under their own names, whatever wrapper their checkpoint was saved through."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from synth.engines.loading import load_model

BASE = Path(__file__).parents[2] / "data" / "goldens" / "fp32" / "models" / "base"


@pytest.mark.parametrize(
    "wrapper",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: name.replace("layers.1.", "layers.1._orig_mod."),
        lambda name: f"module.{name}",
        lambda name: f"model.{name}",
    ],
    ids=["torch.compile", "torch.compile of one layer", "DDP", "Lightning"],
)
def test_a_wrapped_model_is_loaded_as_the_model_inside(
    tmp_path: Path, wrapper: Callable[[str], str]
) -> None:
    folder = shutil.copytree(BASE, tmp_path / "wrapped")
    tensors = load_file(BASE / "model.safetensors")
    renamed = {wrapper(name): tensor for name, tensor in tensors.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    model = load_model(folder, "cpu", None)
    for name, tensor in tensors.items():
        assert torch.equal(model.get_parameter(name), tensor)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_kept_or_becomes_the_same_numbers_in_float32(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    folder = shutil.copytree(BASE, tmp_path / "half")
    tensors = {
        name: tensor.to(dtype) for name, tensor in load_file(BASE / "model.safetensors").items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    name = str(dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps({**config, "dtype": name}))
    model = load_model(folder, "cpu", None)
    assert model.dtype in (dtype, torch.float32)
    assert load_model(folder, "cpu", dtype).dtype == dtype
    for key, tensor in tensors.items():
        assert torch.equal(model.get_parameter(key).float(), tensor.float())
