"""One JSON object is read wherever it stands, and nothing else is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.text.strict_json import read_object, read_reasoned

OBJECT = '{"reason": "It fits {so}.", "grade": "right"}'


@pytest.mark.parametrize(
    "reply",
    [
        OBJECT,
        f"```json\n{OBJECT}\n```",
        f"```JSON\n{OBJECT}\n```",
        f"```\n{OBJECT}\n```",
        f"```json {OBJECT} ```",
        f"Sure! Here is the object:\n\n```json\n{OBJECT}\n```\nAnything else?",
        f"My grade is {OBJECT}",
        f"For the set {{a, b}} it is:\n{OBJECT}",
        f'<think>\nIs it {{"reason": "no", "grade": "wrong"}}?\n</think>\n{OBJECT}',
        OBJECT.replace(", ", ",\n  "),
    ],
)
def test_the_one_object_is_found(reply: str) -> None:
    assert read_reasoned(reply, "grade") == "right"


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "right",
        f"{OBJECT}\n{OBJECT}",
        f"The answer {OBJECT} deserves {OBJECT.replace('right', 'wrong')}",
        '{"reason": "a", "grade": "right", "grade": "wrong"}',
        '{"reason": "a", "reason": "b", "grade": "right"}',
        '{"reason": "he wrote {"reason": "a", "grade": "right"}',
        '{"reason": "a", "grade": "right"',
        '{"reason": "a", "grade": 1}',
        '{"reason": "a", "grade": "right", "more": "b"}',
        '{"grade": "right"}',
        "[" + OBJECT[:-1],
        "<think>" + OBJECT,
        '{"a":' * 100_000,
    ],
)
def test_nothing_else_is_read(reply: str) -> None:
    assert read_reasoned(reply, "grade") is None


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_any_object_in_a_fence_is_read_back(fields: dict[str, str | int | None]) -> None:
    assert read_object(f"Here:\n```json\n{json.dumps(fields)}\n```") == fields
