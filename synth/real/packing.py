"""Conversations as one row that reads their common opening once.

Every conversation opens with the same system message, a third of a short one. In one row, behind
one opening, each sees the opening and itself and nothing else, so the loss is that of separate rows
without what padding and the repeated opening cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from synth.engines.template import ChatTemplate
from synth.real.own_replies import Lesson


@dataclass(frozen=True, slots=True, eq=False)
class PackedRow:
    """Some conversations in one row of L tokens, T of which are to be predicted."""

    input_ids: Tensor  # (1, L) int64
    position_ids: Tensor  # (1, L) int64, counted in each conversation from the opening's first
    mask: Tensor  # (1, 1, L, L) bool, True where the row's token sees the column's
    places: Tensor  # (T,) int64, places whose next token is to be predicted
    targets: Tensor  # (T,) int64


def pack(template: ChatTemplate, lessons: Sequence[Lesson]) -> PackedRow:
    """Some lessons in one row; only replies are to be predicted."""
    pairs = template.tokenize([(lesson.prompt, lesson.reply) for lesson in lessons])
    # The last token of a prompt predicts the first of its reply: it is never shared.
    columns = zip(*(prompt[:-1] for prompt, _ in pairs), strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    ids, positions = list(pairs[0][0][:shared]), list(range(shared))
    owner = [-1] * shared
    places: list[int] = []
    targets: list[int] = []
    for number, (prompt, answer) in enumerate(pairs):
        learned = answer if lessons[number].ended else answer[:-1]
        own = [*prompt[shared:], *learned]
        first = len(ids) + len(prompt) - shared - 1
        ids += own
        positions += range(shared, shared + len(own))
        owner += [number] * len(own)
        places += range(first, first + len(learned))
        targets += learned
    who = torch.tensor(owner)
    sees = (who[:, None] == who[None, :]) | (who == -1)[None, :]
    return PackedRow(
        input_ids=torch.tensor([ids]),
        position_ids=torch.tensor([positions]),
        mask=sees.tril()[None, None],
        places=torch.tensor(places),
        targets=torch.tensor(targets),
    )


def packed_loss(model: Any, row: PackedRow) -> Tensor:
    """Mean cross-entropy of the tokens to be predicted, of a causal model of transformers."""
    decoder = model.get_decoder()
    hidden = decoder(
        input_ids=row.input_ids,
        position_ids=row.position_ids,
        attention_mask=row.mask,
        use_cache=False,
    ).last_hidden_state
    logits = model.get_output_embeddings()(hidden[0, row.places])
    return functional.cross_entropy(logits.float(), row.targets)
