"""Tensors that a folder holds twice: the index decides where loaders agree with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from safemerge.errors import CheckpointError
from safemerge.io import open_checkpoint

O_PROJ, DOWN = "model.layers.0.self_attn.o_proj.weight", "model.layers.1.mlp.down_proj.weight"


def overlay(
    folder: Path, file: str, names: list[str], step: float = 1.0
) -> dict[str, torch.Tensor]:
    """Add a shard with newer copies of some tensors, and point the index to it."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    newer = {}
    for name in names:
        newer[name] = load_file(folder / index["weight_map"][name])[name] + step
        index["weight_map"][name] = file
    save_file(newer, folder / file, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return newer


@pytest.mark.parametrize("names", [[O_PROJ], [DOWN], [O_PROJ, DOWN, "lm_head.weight"]])
def test_an_overlay_that_comes_last_is_what_its_index_and_transformers_say(
    sharded: Path, names: list[str]
) -> None:
    newer = overlay(sharded, "model-overlay-00001.safetensors", names)
    checkpoint = open_checkpoint(sharded)
    model = AutoModelForCausalLM.from_pretrained(sharded)
    for name, tensor in newer.items():
        assert torch.equal(checkpoint.load(name), tensor)
        assert torch.equal(model.get_parameter(name), tensor)


def test_the_content_is_that_of_the_newer_copies(sharded: Path, golden: Path) -> None:
    newer = overlay(sharded, "model-overlay-00001.safetensors", [O_PROJ, DOWN])
    tensors = load_file(golden / "model.safetensors") | newer
    save_file(tensors, golden / "model.safetensors", metadata={"format": "pt"})
    assert open_checkpoint(sharded).content_hash() == open_checkpoint(golden).content_hash()


@pytest.mark.parametrize("file", ["a-patch.safetensors", "model-00000.safetensors"])
def test_an_overlay_that_loaders_would_read_over_is_refused(sharded: Path, file: str) -> None:
    overlay(sharded, file, [O_PROJ, DOWN])
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(sharded)
    text = str(caught.value)
    assert f"'{O_PROJ}' and 1 more tensors twice, with other values" in text
    assert f"places it in {file}, and loaders that read files in order keep the copy in" in text
    assert "remove the copy that is not wanted" in text
    assert "download" not in text


def test_copies_of_equal_bytes_are_no_contradiction(sharded: Path) -> None:
    newer = overlay(sharded, "a-copy.safetensors", [O_PROJ], step=0.0)
    assert torch.equal(open_checkpoint(sharded).load(O_PROJ), newer[O_PROJ])


def test_a_single_file_that_is_half_of_an_index_is_refused(golden: Path) -> None:
    names = load_file(golden / "model.safetensors")
    save_file({O_PROJ: names[O_PROJ] + 1}, golden / "model-overlay.safetensors")
    placed = dict.fromkeys(names, "model.safetensors") | {O_PROJ: "model-overlay.safetensors"}
    index = golden / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": placed}))
    with pytest.raises(CheckpointError, match=r"loaders leave out beside a model\.safetensors"):
        open_checkpoint(golden)
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "model.safetensors")}))
    assert open_checkpoint(golden).tensors.keys() == names.keys()
