"""Questions of the user's own: read with their checks, refused where no check can tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from safemerge.errors import ProbeError
from synth.writing.user_questions import read_user_questions


def test_users_questions_are_read_with_their_checks(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(
        '{"question": "How much?", "answer": "5 mg", "check": "numeric", "id": 7}\n\n'
        '{"question": "Which?", "answer": "none of them", "options": ["one", "none of them"]}\n'
        '{"question": "Who?", "answer": "Asa", "pattern": "^A", "category": "names"}\n'
        '{"question": "What?", "answer": "a beta blocker"}\n'
    )
    much, which, who, what = read_user_questions(path)
    assert much.checker is not None
    assert much.checker.right("It is 5.01 mg", much.answer)
    assert (which.prompt, which.wanted) == ("Which?\nA) one\nB) none of them", "B")
    assert which.checker is not None
    assert which.checker.right("B) none", which.wanted)
    assert who.checker is not None
    assert who.checker.right("Anna", who.answer)
    assert what.checker is None  # what is expected of the answer
    assert (who.category, much.category) == ("names", "user")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"question": "Why?"}', r"line 1: answer is missing"),
        (
            '{"question": "Why?", "answer": "so", "check": "numeric"}',
            "'so' has no number, which the check 'numeric' needs",
        ),
        (
            '{"question": "Why?", "answer": "C", "options": ["a", "b"]}',
            "'C' is none of the 2 options",
        ),
        (
            '{"question": "Why?", "answer": "so", "pattern": "(x"}',
            r"the pattern '\(x' is not valid",
        ),
        ('{"question": "Why?", "answer": "so", "check": "fuzzy"}', r"line 1: check: .*'fuzzy'"),
        ("{", "line 1: not a JSON object"),
        ("", "holds no questions"),
    ],
)
def test_users_questions_that_cannot_be_checked_are_refused(
    tmp_path: Path, line: str, text: str
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ProbeError, match=text):
        read_user_questions(path)
