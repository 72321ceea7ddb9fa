"""Checks as settings: what each needs, and what it says of a reply as a model gives it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from synth.checkers.check import Check
from synth.checkers.pattern import matches


def test_a_pattern_that_would_never_end_tells_nothing() -> None:
    assert matches("Take ASA twice", r"(?i)\b(aspirin|asa)\b") is True
    assert matches("Take water", r"(?i)\b(aspirin|asa)\b") is False
    assert matches("a" * 60 + "!", r"^(a|aa|a?a?a?)+$") is None


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"kind": "choice"}, "options belong to the check 'choice'"),
        ({"options": ("a", "b")}, "options belong to the check 'choice'"),
        ({"kind": "choice", "options": ("a", "A.")}, "2 to 10 different options"),
        ({"kind": "choice", "options": ("a", "b", "A.")}, "2 to 10 different options"),
        ({"kind": "choice", "options": tuple("abcdefghijk")}, "2 to 10 different options"),
        ({"kind": "regex"}, "a pattern belongs to the check 'regex'"),
        ({"kind": "exact", "pattern": "a"}, "a pattern belongs to the check 'regex'"),
        ({"kind": "regex", "pattern": "(a"}, r"the pattern '\(a' is not valid: missing \)"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"kind": "fuzzy"}, "kind"),
    ],
)
def test_a_check_without_what_it_needs_is_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Check(**fields)


@pytest.mark.parametrize(
    ("check", "answer", "text"),
    [
        (Check(kind="numeric"), "some of it", "has no number"),
        (Check(kind="numeric"), "10 to 20", "has no number"),
        (Check(kind="choice", options=("a1", "b1")), "C", "is none of the 2 options"),
        (Check(kind="choice", options=("a1", "b1")), "a1 or b1", "is none of the 2 options"),
        (Check(kind="regex", pattern="^x"), "y", "does not match the pattern '\\^x'"),
        (Check(kind="regex", pattern=r"^(a|aa|a?a?a?)+$"), "a" * 60 + "!", "takes too long on"),
        (Check(kind="contains"), "Is it Paris?", "does not pass the check 'contains'"),
    ],
)
def test_a_check_that_can_say_nothing_of_the_answer_says_why(
    check: Check, answer: str, text: str
) -> None:
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(check.problem(answer))


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (Check(), "Anything at all!"),
        (Check(kind="contains"), "proton pump inhibitor"),
        (Check(kind="numeric"), "20 mg"),
        (Check(kind="choice", options=("one", "two")), "two"),
        (Check(kind="regex", pattern="^A"), "Asa"),
    ],
)
def test_every_check_reads_the_answer_after_the_thinking_and_without_markup(
    check: Check, answer: str
) -> None:
    assert check.problem(answer) is None
    assert check.right(answer, answer) is True
    assert check.right(f"<think>\nIt is not that.\n</think>\n\n{answer}", answer) is True
    assert check.right(f"<think>\n{answer}", answer) is False
    if check.kind != "regex":
        assert check.right(f"**{answer}**", answer) is True
        assert check.right(f"```\n{answer}\n```", answer) is True


def test_what_is_judged_is_told_by_no_text() -> None:
    assert Check(kind="judged").right("so", "so") is None
    assert Check(kind="judged").problem("so") is None
