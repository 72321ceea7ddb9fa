"""Small real checkpoints for the tests of safemerge.io."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from safemerge.io import CheckpointWriter, TensorSpec, open_checkpoint

GOLDENS = Path(__file__).parents[2] / "data" / "goldens" / "fp32" / "models"


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A copy of a Llama checkpoint with tokenizer (2 layers, width 32, vocabulary 96, float32)."""
    return shutil.copytree(GOLDENS / "base", tmp_path / "golden")


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tied Llama checkpoint in bfloat16 that transformers saved. Read only."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("llama") / "model"
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Write tensors and a config as a one-file checkpoint: `make("a", {"w": ...}, **config)`."""

    def build(name: str, tensors: Mapping[str, torch.Tensor], **config: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps({"model_type": "tiny", **config}))
        return folder

    return build


@pytest.fixture
def reshard() -> Callable[[Path, Path, int], Path]:
    """Write the same checkpoint in shards of so many bytes: `reshard(folder, out, 30_000)`."""

    def write(folder: Path, out: Path, shard_bytes: int) -> Path:
        checkpoint = open_checkpoint(folder)
        layout = [TensorSpec(i.name, i.shape, i.dtype) for i in checkpoint.tensors.values()]
        with CheckpointWriter(out, layout=layout, shard_bytes=shard_bytes) as writer:
            for name in checkpoint.tensors:
                writer.add(name, checkpoint.load(name))
            shutil.copy(folder / "config.json", writer.folder)
        return out

    return write


@pytest.fixture
def sharded(golden: Path, tmp_path: Path, reshard: Callable[[Path, Path, int], Path]) -> Path:
    """The golden checkpoint in four shards."""
    return reshard(golden, tmp_path / "sharded", 30_000)
