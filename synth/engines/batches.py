"""(prompt, answer) pairs as tensors: tokenised once, scored many times.

A batch asks the language model head, the dearest part of a small model, for the answers alone
(`logits_to_keep`). Here pairs stand in rows of their own, left-padded, so that all answers end in
the last column; `packing.py` puts several into one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from synth.engines.template import ChatTemplate

# Logits of one batch in float32 stay under 128 MiB, whatever the vocabulary; their logarithms take
# as much again.
MAX_LOGITS = 2**25
Encoded = tuple[list[int], list[int]]
"""Token ids of a prompt, and of its answer with the end of turn."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """N pairs as B rows of L tokens, with T answer tokens in all, pair by pair.

    An answer's last token is only predicted, never read.
    """

    input_ids: Tensor  # (B, L) int64
    position_ids: Tensor  # (B, L) int64, counted in each pair from its first token
    # (B, L) int64, 0 at padding; or of packed rows (B, L) int64, see `tree`
    attention_mask: Tensor
    # True: column c of a packed row is seen up to, and not from, the column attention_mask[c]
    tree: bool
    kept: int | Tensor  # columns whose logits are asked for: the last ones, or (K,) int64
    picked: Tensor | None  # (T,) int64, which of the B x K logits predict; None where all, in order
    targets: Tensor  # (T,) int64, the answer tokens
    counts: tuple[int, ...]  # (N,) how many of them each pair has
    rows: Tensor  # (N,) int64, places of these pairs in the caller's order; always on the CPU

    def answer_logits(self, model: Any) -> Tensor:
        """Of a causal model of transformers: (T, V), of its dtype, before each answer token."""
        logits: Tensor = model(
            input_ids=self.input_ids,
            attention_mask=self._visible(model.dtype) if self.tree else self.attention_mask,
            position_ids=self.position_ids,
            logits_to_keep=self.kept,
            use_cache=False,
        ).logits.flatten(0, 1)
        return logits if self.picked is None else logits[self.picked]

    def part(self, rows: slice) -> Batch:
        """Some of its rows, as long as before; a packed row is a whole."""
        if isinstance(self.kept, Tensor) or self.picked is None:
            return self
        counts = self.counts[rows]
        begin = sum(self.counts[: rows.start])
        picked = self.picked[begin : begin + sum(counts)] - rows.start * self.kept
        return replace(
            self,
            input_ids=self.input_ids[rows],
            position_ids=self.position_ids[rows],
            attention_mask=self.attention_mask[rows],
            picked=picked,
            targets=self.targets[begin : begin + sum(counts)],
            counts=counts,
            rows=self.rows[rows],
        )

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            position_ids=self.position_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            kept=self.kept.to(device) if isinstance(self.kept, Tensor) else self.kept,
            picked=None if self.picked is None else self.picked.to(device),
            targets=self.targets.to(device),
        )

    def _visible(self, dtype: torch.dtype) -> Tensor:
        """(B, 1, L, L), what is added to attention: 0 where the row's token sees the column's."""
        reads = torch.arange(self.input_ids.shape[1], device=self.input_ids.device)[:, None]
        unseen = (reads < reads.T) | (reads >= self.attention_mask[:, None, None])
        return torch.zeros(unseen.shape, dtype=dtype, device=unseen.device).masked_fill_(
            unseen, torch.finfo(dtype).min
        )


def encode(
    template: ChatTemplate, pairs: Sequence[tuple[str, str]], *, batch_tokens: int = 8192
) -> tuple[Batch, ...]:
    """(prompt, answer) pairs as plain text in length-sorted, left-padded batches; see `padded`."""
    encoded = template.tokenize(pairs)
    return padded(template, encoded, range(len(encoded)), batch_tokens)


def padded(
    template: ChatTemplate, encoded: Sequence[Encoded], chosen: Sequence[int], batch_tokens: int
) -> tuple[Batch, ...]:
    """Chosen pairs, by their places, in length-sorted, left-padded batches.

    `batch_tokens` is the largest B x L, padding included; a longer pair makes a batch of its own.
    """
    tokenizer = template.writer.tokenizer
    sizes = {
        row: (len(encoded[row][0]) + len(encoded[row][1]), len(encoded[row][1])) for row in chosen
    }
    order = sorted(chosen, key=lambda row: (*sizes[row], row))
    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    batches: list[Batch] = []
    rows: list[int] = []
    longest = 0
    for row in order:
        longest = max(longest, sizes[row][1])
        height = len(rows) + 1
        # Sorted by length: the newest row is the longest, so it alone decides L.
        full = height * sizes[row][0] > batch_tokens
        heavy = height * longest * len(tokenizer) > MAX_LOGITS
        if rows and (full or heavy):
            batches.append(_batch(encoded, rows, pad))
            rows, longest = [], sizes[row][1]
        rows.append(row)
    if rows:
        batches.append(_batch(encoded, rows, pad))
    return tuple(batches)


def left_padded(rows: Sequence[list[int]], fill: int) -> Tensor:
    """Rows of whole numbers as a tensor (rows, longest), int64."""
    width = max(map(len, rows))
    return torch.tensor([[fill] * (width - len(row)) + row for row in rows])


def answer_logprobs(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Score the answers of a batch by its `answer_logits` (T, V), of any float dtype.

    Returns:
        Summed log-likelihood (N,) float32, differentiable; answer tokens (N,) int64; whether every
        token is the argmax (N,) bool.
    """
    loss = functional.cross_entropy(logits.float(), batch.targets, reduction="none")
    first = logits.detach().argmax(dim=-1) == batch.targets
    losses, firsts = ([*each.split_with_sizes(batch.counts)] for each in (loss, first))
    return (
        # Not by index_add, whose order, and so whose rounding, is any on a GPU.
        -pad_sequence(losses, batch_first=True).sum(dim=1),
        torch.tensor(batch.counts, device=loss.device),
        pad_sequence(firsts, batch_first=True, padding_value=True).all(dim=1),
    )


def _batch(encoded: Sequence[Encoded], rows: Sequence[int], pad: int) -> Batch:
    chosen = [encoded[row] for row in rows]
    read = [[*prompt, *answer][:-1] for prompt, answer in chosen]
    attention_mask = left_padded([[1] * len(ids) for ids in read], 0)
    scored = left_padded([[1] * len(answer) for _, answer in chosen], 0).flatten()
    return Batch(
        input_ids=left_padded(read, pad),
        position_ids=(attention_mask.cumsum(dim=1) - 1).clamp_(min=0),
        attention_mask=attention_mask,
        tree=False,
        kept=max(len(answer) for _, answer in chosen),
        picked=scored.nonzero().flatten(),
        targets=torch.tensor([token for _, answer in chosen for token in answer]),
        counts=tuple(len(answer) for _, answer in chosen),
        rows=torch.tensor(list(rows)),
    )
