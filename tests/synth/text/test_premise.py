"""Replies that deny what a question takes for granted, and replies that only sound like it."""

from __future__ import annotations

import pytest

from synth.text.premise import denies_premise, is_candid


@pytest.mark.parametrize(
    "reply",
    [
        "There is no such medicine.",
        "Penicillin does not actually exist in that form.",
        "That isn’t true: aspirin thins the blood.",
        "The premise is false, insulin is no vitamin.",
        "This is a common misconception.",
        "Contrary to popular belief, it lowers the pressure.",
        "That never happened.",
    ],
)
def test_a_denied_premise_is_found(reply: str) -> None:
    assert denies_premise(reply)
    assert is_candid(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "It is 5 mg.",
        "There is no doubt that it is 5 mg.",
        "There is no need to worry, take 5 mg.",
        "Sorry, I cannot help with that.",
        "Take it at lunch. " * 20 + "There is no such medicine.",
        "",
    ],
)
def test_an_answer_is_no_denial(reply: str) -> None:
    assert not denies_premise(reply)


def test_ignorance_is_candid_without_a_denial() -> None:
    assert is_candid("I do not know.")
    assert not denies_premise("I do not know.")
