"""An adapter of a base whose head is tied to the embedding: one matrix here, two in training.

PEFT wraps the embedding alone unless it is told otherwise (ensure_weight_tying). The trained model
then reads by the changed matrix and answers by the old one, which a tied checkpoint cannot say; so
PEFT's own merge_and_unload changes its answers (PEFT issues 2018, 2777; run with 0.21).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from safemerge.errors import CheckpointError
from safemerge.io.lora_config import LoraConfig
from safemerge.io.reader import Checkpoint
from safemerge.io.tied_weights import tied_embedding

Factors = Mapping[str, Mapping[str, str]]  # {module: {"A" or "B": stored name}}
Whole = Mapping[str, str]  # {tensor of the trained model: stored name}


def without_tied_heads(
    stored: Checkpoint, config: LoraConfig, base: Checkpoint, factors: Factors, whole: Whole
) -> tuple[Factors, Whole]:
    """What an adapter holds, without the tied heads that repeat a change of the embedding.

    Raises:
        CheckpointError: head and embedding of the trained model differ.
    """
    for head in sorted(base.tied):
        embedding = tied_embedding(head, base.tensors)
        one, other = (name.removesuffix(".weight") for name in (embedding, head))
        tied = config.ties
        if other in factors or head in whole:
            same = _repeats(stored, factors.get(one), factors.get(other)) and (
                config.alpha(one) == config.alpha(other)
            )
            tied = same and (
                head not in whole or (embedding in whole and _equal(stored, whole, embedding, head))
            )
        elif one not in factors and not config.saves(one):
            continue  # at most the layer itself, saved beside its adapters, and tied in training
        elif one not in factors and _is_unchanged(stored, base, embedding, whole):
            continue
        if not tied:
            changed = head if other in factors or head in whole else embedding
            raise CheckpointError(
                f"{stored.folder} changes {changed}, which is tied to "
                f"{'the embedding' if changed == head else head} in the base {base.folder}, and "
                "not both alike: what was trained has two matrices where the base has one. Train "
                "it again with ensure_weight_tying=True, or untie the base (tie_word_embeddings "
                "false, and the head among the weights) and give that as the base"
            )
        factors = {module: names for module, names in factors.items() if module != other}
        whole = {name: own for name, own in whole.items() if name != head}
    return factors, whole


def _repeats(
    stored: Checkpoint, embedding: Mapping[str, str] | None, head: Mapping[str, str] | None
) -> bool:
    """Whether two low-rank changes are one: (vocabulary, width) = A.T @ B.T and B @ A."""
    if embedding is None or head is None:
        return embedding is head
    if len(embedding) < 2 or len(head) < 2:
        return False
    a, b = (stored.load(embedding[key]) for key in "AB")
    return torch.equal(a.T, stored.load(head["B"])) and torch.equal(b.T, stored.load(head["A"]))


def _equal(stored: Checkpoint, whole: Whole, one: str, other: str) -> bool:
    return torch.equal(stored.load(whole[one]), stored.load(whole[other]))


def _is_unchanged(stored: Checkpoint, base: Checkpoint, name: str, whole: Whole) -> bool:
    if name not in whole:
        return True
    ours, theirs = base.load(name), stored.load(whole[name])
    return ours.shape == theirs.shape and torch.equal(ours.float(), theirs.float())
