"""Which output heads are only another name for the embedding.

transformers 5 unties a head whose stored bytes differ from the embedding's even when the config
says tied, so that contradiction is refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from safemerge.errors import CheckpointError
from safemerge.io.files import setting
from safemerge.io.header import TensorInfo

# (head, embedding) in the spelling of the common decoder families.
_PAIRS = (
    ("lm_head.weight", "model.embed_tokens.weight"),
    ("lm_head.weight", "transformer.wte.weight"),
    ("lm_head.weight", "model.decoder.embed_tokens.weight"),
    ("lm_head.weight", "model.language_model.embed_tokens.weight"),
    ("lm_head.weight", "transformer.word_embeddings.weight"),
    ("language_model.lm_head.weight", "language_model.model.embed_tokens.weight"),
    ("embed_out.weight", "gpt_neox.embed_in.weight"),
)


def find_tied(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, TensorInfo],
    load: Callable[[str], torch.Tensor],
) -> frozenset[str]:
    """Names of tied heads, stored or not.

    Where the config does not say (some families leave their default out of config.json), a head is
    tied if it is not stored, or if its bytes are the embedding's.
    """
    says = setting(config, "tie_word_embeddings")
    tied: set[str] = set()
    for head, embedding in _PAIRS:
        if says is False or embedding not in tensors:
            continue
        if head not in tensors or _same(tensors[head], tensors[embedding], load):
            tied.add(head)
        elif says:
            raise CheckpointError(
                f"config.json of {folder} says tie_word_embeddings, and {head} differs from "
                f"{embedding}; set tie_word_embeddings to false if the head is its own matrix, "
                "else remove it from the weights"
            )
    return frozenset(tied)


def tied_embedding(head: str, tensors: Mapping[str, TensorInfo]) -> str:
    """The stored embedding of which a head that `find_tied` named is another name."""
    return next(embedding for name, embedding in _PAIRS if name == head and embedding in tensors)


def _same(a: TensorInfo, b: TensorInfo, load: Callable[[str], torch.Tensor]) -> bool:
    same_kind = a.shape == b.shape and a.dtype == b.dtype
    return same_kind and torch.equal(load(a.name), load(b.name))
