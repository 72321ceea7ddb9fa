"""Damaged, missing and hostile checkpoints: one clear sentence each, exit code 2."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safemerge.errors import CheckpointError
from safemerge.io import open_checkpoint

Make = Callable[..., Path]


def refusal(folder: str | Path, **options: bool) -> str:
    """The sentence with which a checkpoint is refused."""
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder, **options)
    assert caught.value.exit_code == 2
    return str(caught.value)


def edit_index(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def edit_header(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def test_a_missing_folder(tmp_path: Path) -> None:
    message = refusal(str(tmp_path / "absent"))
    assert f"the checkpoint folder {tmp_path / 'absent'} does not exist" in message


def test_a_missing_relative_path_object_is_never_looked_up_on_the_hub() -> None:
    assert "the checkpoint folder some/where does not exist" in refusal(Path("some/where"))


def test_an_empty_folder(tmp_path: Path) -> None:
    assert f"{tmp_path} is empty: expected model.safetensors" in refusal(tmp_path)


def test_a_folder_without_weights(golden: Path) -> None:
    (golden / "model.safetensors").unlink()
    assert f"{golden} has no weights: expected model.safetensors" in refusal(golden)


def test_a_file_instead_of_a_folder(golden: Path) -> None:
    message = refusal(golden / "model.safetensors")
    assert "model.safetensors is a file; give the checkpoint folder" in message


def test_a_missing_config(golden: Path) -> None:
    (golden / "config.json").unlink()
    assert "has weights and no config.json" in refusal(golden)


def test_a_config_that_is_not_json(golden: Path) -> None:
    (golden / "config.json").write_text("{")
    assert "config.json is not JSON" in refusal(golden)
    (golden / "config.json").write_text("[1]")
    assert "config.json holds a JSON list, not an object" in refusal(golden)


def test_a_lora_adapter_as_the_base(golden: Path) -> None:
    (golden / "model.safetensors").rename(golden / "adapter_model.safetensors")
    assert "is a LoRA adapter, not a whole model; name it as a source" in refusal(golden)


def test_a_shard_named_in_the_index_but_missing(sharded: Path) -> None:
    (sharded / "model-00002-of-00004.safetensors").unlink()
    message = refusal(sharded)
    assert "names the shard model-00002-of-00004.safetensors, which is missing" in message


def test_an_index_that_is_not_json(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").write_text('{"weight_map": {')
    assert "model.safetensors.index.json is not JSON" in refusal(sharded)


@pytest.mark.parametrize("weight_map", [None, [], {}, "x"])
def test_an_index_without_a_weight_map(sharded: Path, weight_map: object) -> None:
    edit_index(sharded, lambda index: index.update(weight_map=weight_map))
    assert "has no weight_map that names tensors" in refusal(sharded)


@pytest.mark.parametrize(
    "name",
    ["../x.safetensors", "/etc/x.safetensors", "a/../../x.safetensors", "..\\x.safetensors"],
)
def test_an_index_that_points_out_of_its_folder(sharded: Path, name: str) -> None:
    (sharded.parent / "x.safetensors").write_bytes(b"secret")
    edit_index(sharded, lambda index: index["weight_map"].update({"model.norm.weight": name}))
    assert f"refers to {name!r}, which is not a file of that folder" in refusal(sharded)


@pytest.mark.parametrize("name", ["weights.py", "pytorch_model.bin", 7, None])
def test_an_index_that_names_something_else_than_safetensors(sharded: Path, name: object) -> None:
    edit_index(sharded, lambda index: index["weight_map"].update({"model.norm.weight": name}))
    assert f"places tensor 'model.norm.weight' in {name!r}, which is not a" in refusal(sharded)


def test_a_link_out_of_the_folder(sharded: Path, tmp_path: Path) -> None:
    shard = sharded / "model-00001-of-00004.safetensors"
    outside = shard.rename(tmp_path / "outside.safetensors")
    shard.symlink_to(outside)
    assert f"{shard} is a link to {outside}, outside the checkpoint folder" in refusal(sharded)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_link_out_of_a_folder_with_one_file(golden: Path, tmp_path: Path, name: str) -> None:
    outside = (golden / name).rename(tmp_path / "outside")
    (golden / name).symlink_to(outside)
    assert "outside the checkpoint folder" in refusal(golden)


def test_a_snapshot_link_beyond_the_blobs_of_its_repository(golden: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--tiny" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    golden.rename(snapshot)
    other = tmp_path / "models--org--other" / "blobs"
    other.mkdir(parents=True)
    (snapshot / "model.safetensors").rename(other / "1")
    (snapshot / "model.safetensors").symlink_to(other / "1")
    assert "outside the checkpoint folder" in refusal(snapshot)


def test_links_inside_the_folder_and_to_the_folder_are_fine(golden: Path, tmp_path: Path) -> None:
    (golden / "model.safetensors").rename(golden / "weights.bin.real")
    (golden / "model.safetensors").symlink_to("weights.bin.real")
    (tmp_path / "alias").symlink_to(golden)
    assert open_checkpoint(tmp_path / "alias").tensors


def test_a_tensor_of_the_index_that_its_shard_lacks(sharded: Path) -> None:
    edit_index(
        sharded,
        lambda index: index["weight_map"].update(
            {"model.extra.weight": "model-00001-of-00004.safetensors"}
        ),
    )
    message = refusal(sharded)
    assert (
        "places tensor 'model.extra.weight' in model-00001-of-00004.safetensors, which" in message
    )


def test_a_tensor_of_a_shard_that_the_index_lacks(sharded: Path) -> None:
    edit_index(sharded, lambda index: index["weight_map"].pop("model.norm.weight"))
    assert "holds tensor 'model.norm.weight', which the index of" in refusal(sharded)


@pytest.mark.parametrize("keep", [0, 5, 8, 20, 3000, -1])
def test_a_truncated_file(golden: Path, keep: int) -> None:
    file = golden / "model.safetensors"
    size = file.stat().st_size
    os.truncate(file, keep % size if keep < 0 else keep)
    message = refusal(golden)
    assert f"{file} is truncated" in message
    assert message.endswith("download or copy it again")


def test_a_truncated_file_gives_both_sizes(golden: Path) -> None:
    file = golden / "model.safetensors"
    size = file.stat().st_size
    os.truncate(file, size - 10)
    assert f"its header promises {size} bytes and it has {size - 10}" in refusal(golden)


def test_a_header_length_beyond_the_file(golden: Path) -> None:
    file = golden / "model.safetensors"
    file.write_bytes(struct.pack("<Q", 10**15) + file.read_bytes()[8:])
    assert f"the header should have {10**15} bytes" in refusal(golden)


def test_a_header_that_is_not_json(golden: Path) -> None:
    file = golden / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:8] + b"{bad!" + data[13:])
    assert "has a damaged header (" in refusal(golden)


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h["model.norm.weight"].update(data_offsets=[0, 128]),  # over another tensor
        lambda h: h["model.norm.weight"].update(data_offsets=[10**9, 10**9 + 128]),
        lambda h: h["model.norm.weight"].update(data_offsets=[128, 0]),
        lambda h: h["model.norm.weight"].update(data_offsets=[-128, 0]),
        lambda h: h["model.norm.weight"].update(shape=[31]),
        lambda h: h["model.norm.weight"].update(dtype="BF16"),
        lambda h: h["model.norm.weight"].update(dtype="F33"),
        lambda h: h["model.norm.weight"].pop("shape"),
        lambda h: h.pop("model.norm.weight"),  # a hole
        lambda h: h.update({"model.norm.weight": 3}),
    ],
)
def test_a_damaged_header(golden: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = golden / "model.safetensors"
    edit_header(file, change)
    message = refusal(golden)
    assert str(file) in message
    assert "damaged header" in message or "is truncated" in message


@settings(max_examples=60)
@given(data=st.data())
def test_any_damage_to_a_header_is_a_checkpoint_error_or_harmless(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from safetensors.torch import save

    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "config.json").write_text("{}")
    content = bytearray(save({"a": torch.ones(3), "b": torch.zeros(2, 2)}))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content))) :]
    (folder / "model.safetensors").write_bytes(content)
    try:
        checkpoint = open_checkpoint(folder)
    except CheckpointError:
        return
    for name, info in checkpoint.tensors.items():
        assert tuple(checkpoint.load(name).shape) == info.shape


def test_a_pickle_without_permission(golden: Path) -> None:
    (golden / "model.safetensors").rename(golden / "pytorch_model.bin")
    message = refusal(golden)
    assert "has its weights in .bin pickles, which can run code" in message
    assert "--allow-pickle" in message
    assert "safe_serialization=True" in message


class Payload:
    """Creates a file when unpickled by a careless loader."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


def test_an_allowed_pickle_still_runs_no_code(golden: Path, tmp_path: Path) -> None:
    (golden / "model.safetensors").unlink()
    torch.save({"w": Payload(str(tmp_path / "ran"))}, golden / "pytorch_model.bin")
    message = refusal(golden, allow_pickle=True)
    assert "cannot be loaded as tensors only" in message
    assert not (tmp_path / "ran").exists()


def test_a_pickle_of_other_things(golden: Path) -> None:
    (golden / "model.safetensors").unlink()
    torch.save({"w": 3}, golden / "pytorch_model.bin")
    assert "is not a mapping of names to tensors" in refusal(golden, allow_pickle=True)
    (golden / "pytorch_model.bin").write_bytes(pickle.dumps({"w": 3}))
    assert "cannot be loaded as tensors only" in refusal(golden, allow_pickle=True)


def test_quantised_weights_are_named(make: Make) -> None:
    packed = {"l.weight": torch.zeros(4, 4, dtype=torch.int8), "l.scale": torch.ones(4)}
    assert "tensor 'l.weight' in" in refusal(make("int8", packed))
    assert "has type int8, which cannot be merged" in refusal(make("int8b", packed))
    packed = {"l.qweight": torch.zeros(4, 4, dtype=torch.int32)}
    assert "'l.qweight'" in refusal(make("gptq", packed))
    packed = {"l.weight": torch.zeros(4, 4, dtype=torch.float8_e4m3fn)}
    assert "has type float8_e4m3fn" in refusal(make("fp8", packed))
    packed = {"mlp.experts.gate_up_proj_blocks": torch.zeros(4, 4, dtype=torch.uint8)}
    assert "has type uint8, which cannot be merged" in refusal(make("mxfp4", packed))


def test_integer_buffers_and_old_masks_are_not_quantised_weights(make: Make) -> None:
    buffers = {
        "embeddings.position_ids": torch.arange(4),
        "h.0.attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.uint8),
        "w": torch.ones(2),
    }
    assert open_checkpoint(make("buffers", buffers)).tensors.keys() == buffers.keys()


def test_a_quantisation_config(golden: Path) -> None:
    config = json.loads((golden / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes"}
    (golden / "config.json").write_text(json.dumps(config))
    assert "is quantised (quantization_config in config.json)" in refusal(golden)
    config["text_config"] = {"compression_config": {"format": "pack-quantized"}}
    del config["quantization_config"]
    (golden / "config.json").write_text(json.dumps(config))
    assert "is quantised (compression_config in config.json)" in refusal(golden)
