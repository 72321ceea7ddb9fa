"""Probes as padded tensors: tokenised once, scored many times.

Left-padded, so that all answers end in the last column and the language model head, the dearest
part of a small model, runs on the answer columns alone (`logits_to_keep`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from synth.engines.template import ChatTemplate

IGNORED = -100
# Logits of one batch in float32 stay under 128 MiB, whatever the vocabulary; their logarithms take
# as much again.
_MAX_LOGITS = 2**25


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some (prompt, answer) pairs as tensors; L is the longest pair, A the longest answer."""

    input_ids: Tensor  # (B, L) int64, left-padded
    attention_mask: Tensor  # (B, L) int64, 0 at padding
    position_ids: Tensor  # (B, L) int64, counted from each row's first real token
    targets: Tensor  # (B, A) int64, the answers, right-aligned, padded in front with -100
    rows: Tensor  # (B,) int64, places of these pairs in the caller's order; always on the CPU

    def model_kwargs(self) -> dict[str, Any]:
        """Keyword arguments for a causal model's forward, which gives the last A + 1 logits."""
        return {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
            "logits_to_keep": int(self.targets.shape[1]) + 1,
            "use_cache": False,
        }

    def part(self, rows: slice) -> Batch:
        """Some of its rows, as long as before."""
        return Batch(
            self.input_ids[rows],
            self.attention_mask[rows],
            self.position_ids[rows],
            self.targets[rows],
            self.rows[rows],
        )

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            position_ids=self.position_ids.to(device),
            targets=self.targets.to(device),
        )


def encode(
    template: ChatTemplate, pairs: Sequence[tuple[str, str]], *, batch_tokens: int = 8192
) -> tuple[Batch, ...]:
    """Pack (prompt, answer) pairs as plain text into length-sorted, left-padded batches.

    `batch_tokens` is the largest B x L, padding included; a longer pair makes a batch of its own.
    """
    encoded = template.tokenize(pairs)
    tokenizer = template.writer.tokenizer
    sizes = [(len(p) + len(a), len(a)) for p, a in encoded]
    order = sorted(range(len(encoded)), key=lambda row: (*sizes[row], row))
    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    batches: list[Batch] = []
    rows: list[int] = []
    longest = 0
    for row in order:
        longest = max(longest, sizes[row][1])
        height = len(rows) + 1
        # Sorted by length: the newest row is the longest, so it alone decides L.
        full = height * sizes[row][0] > batch_tokens
        heavy = height * (longest + 1) * len(tokenizer) > _MAX_LOGITS
        if rows and (full or heavy):
            batches.append(_pack(encoded, rows, pad))
            rows, longest = [], sizes[row][1]
        rows.append(row)
    if rows:
        batches.append(_pack(encoded, rows, pad))
    return tuple(batches)


def left_padded(rows: Sequence[list[int]], fill: int) -> Tensor:
    """Rows of whole numbers as a tensor (rows, longest), int64."""
    width = max(map(len, rows))
    return torch.tensor([[fill] * (width - len(row)) + row for row in rows])


def answer_logprobs(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Score the answers of a batch by the model's last logits (B, A + 1, V), of any float dtype.

    Returns:
        Summed log-likelihood (B,) float32, differentiable; answer tokens (B,) int64; whether every
        token is the argmax (B,) bool.
    """
    columns = logits[:, :-1].float()
    targets = batch.targets
    scored = targets != IGNORED
    loss = functional.cross_entropy(
        columns.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    first = columns.detach().argmax(dim=-1) == targets
    return (-loss.view(targets.shape).sum(dim=1), scored.sum(dim=1), (first | ~scored).all(dim=1))


def _pack(encoded: Sequence[tuple[list[int], list[int]]], rows: Sequence[int], pad: int) -> Batch:
    chosen = [encoded[row] for row in rows]
    attention_mask = left_padded([[1] * (len(p) + len(a)) for p, a in chosen], 0)
    return Batch(
        input_ids=left_padded([p + a for p, a in chosen], pad),
        attention_mask=attention_mask,
        position_ids=(attention_mask.cumsum(dim=1) - 1).clamp_(min=0),
        targets=left_padded([a for _, a in chosen], IGNORED),
        rows=torch.tensor(list(rows)),
    )
