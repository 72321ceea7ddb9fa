"""Markup is taken off, and what it marks stays; the named answer is found under it."""

from __future__ import annotations

import pytest

from synth.text.final_answer import final_answer
from synth.text.markup import plain_text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (
            "**Bold** and *leaning* and __strong__ and `code`",
            "Bold and leaning and strong and code",
        ),
        ("```python\nx = 1\n```", "x = 1"),
        ("```json {}```", "{}"),
        ("## Heading\n> quoted", "Heading\nquoted"),
        (r"So \(x = \boxed{20\,\text{mg}}\).", "So x = 20 mg."),
        (r"$\frac{1}{2}$", r"\frac{1}{2}"),
        ("It costs $400, or 2 * 200.", "It costs $400, or 2  200."),
        ("snake_case stays", "snake_case stays"),
        ("<b>B</b>", "B"),
        ("", ""),
    ],
)
def test_markup_is_taken_off(text: str, plain: str) -> None:
    assert plain_text(text) == plain


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The answer is Paris. It is large.", "Paris"),
        ("The final answer: 3.5 mg", "3.5 mg"),
        ("Answer: **D**", "D"),
        ("**Final Answer**\nD\nmore", "D"),
        ("The correct answer would be (B).", "(B)"),
        ("The answer to your question is B", "B"),
        ("First answer: A. But then:\nAnswer: C", "C"),
        ("The answer is 1, no, \\boxed{2}", "2"),
        ("6 * 7\n#### 42", "42"),
        ("So the solution is: x", "x"),
        ("I will answer this.", None),
        ("An answer is what you want?", None),
        ("Paris", None),
        ("Answer:", None),
    ],
)
def test_the_last_naming_of_the_answer_counts(text: str, said: str | None) -> None:
    assert final_answer(text) == said
