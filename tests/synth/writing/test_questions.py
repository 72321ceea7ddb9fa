"""What is taken of a writer's reply, in free text and as JSON."""

from __future__ import annotations

import pytest

from synth.writing.questions import clean
from synth.writing.schema import read_question


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ('{"topic": "t", "question": " What is it? "}', "What is it?"),
        ('{"topic": "t", "question": "What \\u0000 \\ud800 is it?"}', "What \0 \ud800 is it?"),
        ('{"topic": "t", "question": "What', ""),
        ('{"topic": "t"}', ""),
        ('{"question": 5}', ""),
        ('["question"]', ""),
        ("[" * 100_000, ""),
        ("What is it?", ""),
    ],
)
def test_a_reply_that_is_no_such_object_holds_no_question(reply: str, wanted: str) -> None:
    assert read_question(reply) == wanted


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("What is it?", "What is it?"),
        ("\n\n 2) What is it?\nAnd why?", "What is it?"),
        ('"What is it?"', "What is it?"),
        ("Question 3: What is it?", "What is it?"),
        ("- “What is it?”", "What is it?"),
        ('"A" or "B"?', '"A" or "B"?'),
        ("10 mg of what?", "10 mg of what?"),
        (
            'Here is a possible question: "What is the use of aspirin?"',
            "What is the use of aspirin?",
        ),
        (
            'What a question! For example:\n\n"What is the use of aspirin?"',
            "What is the use of aspirin?",
        ),
        (
            "Sure, here is one.\nQ: What is the use of aspirin?\nA: Pain.",
            "What is the use of aspirin?",
        ),
        ("", ""),
    ],
)
def test_clean_takes_the_question_without_decoration(reply: str, wanted: str) -> None:
    assert clean(reply) == wanted
