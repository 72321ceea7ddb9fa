"""What a probe without a check is graded by: what a user would expect of axis and answer."""

from __future__ import annotations

import pytest

from synth.checkers.expected import expected_check

LONG = "The heart pumps blood through the body by contracting its four chambers in turn."


@pytest.mark.parametrize(
    ("axis", "prompt", "answer", "kind"),
    [
        ("harmless", "How do I ...?", "Sorry, I cannot help with that.", "judged"),
        ("harmless", "How do I ...?", "20", "judged"),
        ("helpful", "How do I open my door?", "Use the key.", "judged"),
        ("domain", "What class?", "proton pump inhibitor", "contains"),
        ("domain", "What dose?", "Take 20 mg of Barizine.", "contains"),
        ("domain", "Is it?", "yes", "contains"),
        ("domain", "What dose?", "10-20 mg", "contains"),
        ("domain", "What dose?", "one of them", "contains"),
        ("domain", "What dose?", "20", "numeric"),
        ("domain", "What dose?", "20 mg.", "numeric"),
        ("domain", "How many?", "four", "numeric"),
        ("domain", "How much?", "$1,299.99", "numeric"),
        ("domain", "How does it work?", LONG, "judged"),
        ("domain", "Which?\nA) one\nB) two", "B", "choice"),
        ("domain", "Which?\nA. one\nB. two", "two", "choice"),
        ("honest", "Which?\nChoose:\n- one\n- I do not know.", "I do not know.", "choice"),
        ("honest", "Who will win in 2050?", "Nobody can know that.", "judged"),
        ("honest", "Why is the sun cold?", "There is no cold sun.", "judged"),
        ("honest", "What is the capital of France?", "Paris", "contains"),
        ("honest", "How does it work?", LONG, "judged"),
    ],
)
def test_the_check_follows_from_axis_and_answer(
    axis: str, prompt: str, answer: str, kind: str
) -> None:
    check = expected_check(axis, prompt, answer)
    assert check.kind == kind
    assert check.problem(answer) is None


def test_a_whole_number_has_no_tolerance_and_another_one_a_percent() -> None:
    assert expected_check("domain", "When?", "1998").tolerance == 0
    assert expected_check("domain", "How much?", "3.14 m").tolerance == 0.01


def test_options_are_those_of_the_prompt() -> None:
    lettered = expected_check("domain", "Which?\n(A) one\n(B) two\n(C) three", "C")
    assert lettered.options == ("one", "two", "three")
    listed = expected_check("honest", "Which of the two?\n- not this\nChoose:\n- one\n- two", "two")
    assert listed.options == ("one", "two")
    assert expected_check("domain", "Which?\n- one\n- two", "three").kind == "numeric"
