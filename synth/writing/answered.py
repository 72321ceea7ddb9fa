"""Questions with the answers that are wanted, and how often a model gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synth.checkers.check import Check
from synth.writing.context import Workshop
from synth.writing.questions import Question


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with the answer that is wanted, and how replies are checked."""

    question: Question
    answer: str
    check: Check


def shares_right(
    shop: Workshop,
    name: str,
    asked: Sequence[str],
    answered: Sequence[Answered],
    purpose: str,
    turn: int,
) -> list[float]:
    """Share of a model's samples that are right, in [0, 1], for each question.

    Args:
        shop: the models, and how many samples are taken.
        name: of the pool model.
        asked: what it is told, one message for each question.
        answered: the questions.
        purpose, turn: other ones give other samples.
    """
    count = shop.config.samples
    replies = shop.pool[name].chat(
        [message for message in asked for _ in range(count)],
        max_tokens=shop.config.answer_tokens,
        temperature=shop.config.sample_temperature,
        seed=shop.number(purpose, turn),
    )
    return [
        sum(one.check.right(reply, one.answer) for reply in replies[i * count : (i + 1) * count])
        / count
        for i, one in enumerate(answered)
    ]
