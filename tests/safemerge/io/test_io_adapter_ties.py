"""Adapters of a tied base: one matrix holds what was trained as one, and nothing else.

The references are what PEFT 0.21's own model answers (run), written out as an untied model.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from safemerge import Recipe, merge
from safemerge.errors import CheckpointError
from safemerge.io import Adapter, open_checkpoint, open_source

EMBED, HEAD = "base_model.model.model.embed_tokens", "base_model.model.lm_head"
A, B = (
    torch.randn(shape, generator=torch.Generator().manual_seed(7)) / 10
    for shape in ((4, 96), (32, 4))
)
DELTA = 2.0 * (B @ A).T  # (vocabulary, width), at alpha 8 and rank 4
PAIR = {f"{EMBED}.lora_embedding_A": A, f"{EMBED}.lora_embedding_B": B}
TIED_PAIR = PAIR | {f"{HEAD}.lora_A.weight": B.T, f"{HEAD}.lora_B.weight": A.T}
IDS = torch.arange(6, 40)[None]


@pytest.fixture
def embedding(llama: Path) -> Tensor:
    return open_checkpoint(llama).load("model.embed_tokens.weight").float()


def write(folder: Path, tensors: dict[str, Tensor], **config: object) -> Path:
    folder.mkdir()
    plain = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(plain | config))
    save_file(
        {k: v.contiguous().clone() for k, v in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


def opened(folder: Path, base: Path) -> Adapter:
    source = open_source(folder, str(folder), open_checkpoint(base))
    assert isinstance(source, Adapter)
    return source


def refused(folder: Path, base: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        opened(folder, base)
    return str(caught.value)


@pytest.mark.parametrize("ensured", [False, None])
def test_a_change_of_the_embedding_alone_is_refused_with_the_ways_out(
    llama: Path, tmp_path: Path, embedding: Tensor, ensured: bool | None
) -> None:
    saved = {f"{EMBED}.base_layer.weight": embedding}
    adapter = write(tmp_path / "a", PAIR | saved, ensure_weight_tying=ensured)
    text = refused(adapter, llama)
    assert f"{adapter} changes model.embed_tokens.weight, which is tied to lm_head.weight" in text
    assert "ensure_weight_tying=True, or untie the base" in text
    assert "merge_and_unload" not in text  # it changes the answers


@pytest.mark.parametrize(
    "tensors",
    [
        {f"{HEAD}.lora_A.weight": B.T, f"{HEAD}.lora_B.weight": A.T},
        TIED_PAIR | {f"{HEAD}.lora_B.weight": 2 * A.T},
        PAIR | {f"{HEAD}.weight": torch.ones(96, 32)},
        {f"{EMBED}.weight": torch.ones(96, 32), f"{HEAD}.weight": torch.zeros(96, 32)},
    ],
    ids=["the head alone", "another head", "a whole head", "two whole matrices"],
)
def test_a_head_that_is_not_the_embeddings_is_refused(
    llama: Path, tmp_path: Path, tensors: dict[str, Tensor]
) -> None:
    adapter = write(tmp_path / "a", tensors, ensure_weight_tying=True)
    assert "changes lm_head.weight, which is tied to the embedding" in refused(adapter, llama)


def test_another_alpha_of_the_head_is_another_head(llama: Path, tmp_path: Path) -> None:
    adapter = write(tmp_path / "a", TIED_PAIR, alpha_pattern={"lm_head": 16})
    assert "changes lm_head.weight" in refused(adapter, llama)


@pytest.mark.parametrize("whole", [torch.zeros(96, 32), torch.ones(96, 32)])
def test_an_embedding_that_was_trained_whole_needs_the_tie_too(
    llama: Path, tmp_path: Path, whole: Tensor
) -> None:
    changed = {f"{EMBED}.weight": whole}
    alone = write(tmp_path / "a", changed, modules_to_save=["embed_tokens"])
    assert "which is tied to lm_head.weight" in refused(alone, llama)
    tied = write(
        tmp_path / "b", changed, modules_to_save=["embed_tokens"], ensure_weight_tying=True
    )
    both = write(
        tmp_path / "c",
        changed | {f"{HEAD}.weight": whole},
        modules_to_save=["embed_tokens", "lm_head"],
    )
    saved_beside = write(tmp_path / "d", changed)  # not wrapped, so tied in training
    for adapter in (tied, both, saved_beside):
        assert opened(adapter, llama).whole == {"model.embed_tokens.weight": f"{EMBED}.weight"}


def test_an_embedding_that_is_the_bases_own_changes_nothing(
    llama: Path, tmp_path: Path, embedding: Tensor
) -> None:
    adapter = write(
        tmp_path / "a", {f"{EMBED}.weight": embedding}, modules_to_save=["model.embed_tokens"]
    )
    delta = opened(adapter, llama).delta("model.embed_tokens.weight", embedding)
    assert not delta.any()


@pytest.mark.parametrize("tensors", [PAIR, TIED_PAIR], ids=["embedding", "both"])
def test_a_tie_that_was_ensured_answers_as_the_trained_model(
    llama: Path, tmp_path: Path, embedding: Tensor, tensors: dict[str, Tensor]
) -> None:
    copies = {f"{EMBED}.base_layer.weight": embedding}
    if f"{HEAD}.lora_A.weight" in tensors:
        copies[f"{HEAD}.base_layer.weight"] = embedding.clone()
    adapter = write(tmp_path / "a", tensors | copies, ensure_weight_tying=True)
    recipe = {
        "base": {"name": "base", "path": str(llama)},
        "sources": [{"name": "a", "path": str(adapter)}],
        "method": "task_arithmetic",
        "weights": {"default": {"a": 1.0}},
        "dtype": "float32",
    }
    merge(Recipe.from_json(json.dumps(recipe)), tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    trained = AutoModelForCausalLM.from_pretrained(
        llama, dtype=torch.float32, tie_word_embeddings=False
    )
    for part in (trained.model.embed_tokens, trained.lm_head):
        part.weight = torch.nn.Parameter(embedding + DELTA)
    with torch.no_grad():
        assert torch.allclose(merged(IDS).logits, trained(IDS).logits, atol=1e-5)
