"""What a mixture learns from: answers to prompts, each with the expert that it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = -100  # a label that nothing is learned from


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and its answer, as token ids, neither of them empty."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]  # with the end of turn
    expert: int | None = None  # its number; None: no expert stands for it


def collate(examples: Sequence[Example], pad: int) -> dict[str, Tensor | int]:
    """Examples as a batch of a causal model, left-padded, so that answers end in the last column.

    Returns:
        input_ids, attention_mask, position_ids, each (B, L) int64: prompt and answer but for its
        last token, which is only predicted. logits_to_keep: K, the longest answer. labels
        (B, 1 + K) int64: the expert's number, then the tokens that the last K columns predict;
        `IGNORED` where there is none.
    """
    read = [[*example.prompt, *example.answer[:-1]] for example in examples]
    kept = max(len(example.answer) for example in examples)
    mask = _left_padded([[1] * len(row) for row in read], 0)
    targets = _left_padded([list(example.answer) for example in examples], IGNORED)
    experts = [IGNORED if example.expert is None else example.expert for example in examples]
    return {
        "input_ids": _left_padded(read, pad),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(dim=1) - 1).clamp_(min=0),
        "logits_to_keep": kept,
        "labels": torch.cat([torch.tensor(experts)[:, None], targets], dim=1),
    }


def _left_padded(rows: Sequence[list[int]], fill: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[fill] * (width - len(row)) + row for row in rows])
