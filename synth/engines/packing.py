"""Conversations as one row that reads once what they begin with in common.

Every conversation opens with the same system message, a third of a short one, and two answers to a
prompt have all of it in common. So a row holds the tree of its conversations' tokens: each token
stands once for all conversations that agree up to it, and sees what comes before it in them, and
nothing else. That gives the likelihoods of separate rows, without what padding and repeated
beginnings cost. (SGLang shares caches by such a tree, Zheng et al. 2023, 2312.07104; the mask is
that of tree attention, Miao et al. 2023, 2305.09781.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from synth.engines.batches import Batch, Encoded


def pack(
    encoded: Sequence[Encoded], chosen: Sequence[int], row_tokens: int, answer_tokens: int
) -> tuple[Batch, ...]:
    """Chosen pairs, by their places, in batches of one row each.

    Args:
        encoded: all pairs; a prompt has at least one token.
        chosen: which of them.
        row_tokens: most tokens of a row; a longer pair has a row to itself.
        answer_tokens: most answer tokens of a row, likewise.
    """
    # In the order of their tokens, so that each has most in common with the one before it.
    order = sorted(chosen, key=lambda place: (*encoded[place][0], *encoded[place][1]))
    batches: list[Batch] = []
    row = _Row()
    for place in order:
        prompt, answer = encoded[place]
        full = len(row.ids) + row.more(prompt, answer) > row_tokens
        if row.places and (full or len(row.targets) + len(answer) > answer_tokens):
            batches.append(row.batch())
            row = _Row()
        row.add(place, prompt, answer)
    if row.places:
        batches.append(row.batch())
    return tuple(batches)


class _Row:
    """A row that grows; its tokens stand in the tree's order, parents first, branch by branch."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.ends: list[int] = []  # of each token the column after the last that sees it
        self.kept: list[int] = []
        self.targets: list[int] = []
        self.counts: list[int] = []
        self.places: list[int] = []
        self._path: list[int] = []  # columns of the last pair's tokens

    def more(self, prompt: list[int], answer: list[int]) -> int:
        """How many tokens a pair would add."""
        read = [*prompt, *answer][:-1]
        return len(read) - self._shared(read)

    def add(self, place: int, prompt: list[int], answer: list[int]) -> None:
        """Put a pair behind the others, whose order is that of their tokens."""
        read = [*prompt, *answer][:-1]
        shared, size = self._shared(read), len(self.ids)
        for column in self._path[shared:]:
            self.ends[column] = size
        own = range(size, size + len(read) - shared)
        self._path = [*self._path[:shared], *own]
        self.ids += read[shared:]
        self.positions += range(shared, len(read))
        self.ends += [0] * len(own)  # until the branch ends
        self.kept += self._path[len(prompt) - 1 :]
        self.targets += answer
        self.counts.append(len(answer))
        self.places.append(place)

    def batch(self) -> Batch:
        for column in self._path:
            self.ends[column] = len(self.ids)
        return Batch(
            input_ids=torch.tensor([self.ids]),
            position_ids=torch.tensor([self.positions]),
            attention_mask=torch.tensor([self.ends]),
            tree=True,
            kept=torch.tensor(self.kept),
            picked=None,
            targets=torch.tensor(self.targets),
            counts=tuple(self.counts),
            rows=torch.tensor(self.places),
        )

    def _shared(self, read: list[int]) -> int:
        """How many tokens a pair has in common with the last one."""
        before = [self.ids[column] for column in self._path]
        pairs = enumerate(zip(read, before, strict=False))
        return next((i for i, (a, b) in pairs if a != b), min(len(read), len(before)))
