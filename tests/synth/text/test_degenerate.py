"""Broken replies are found by strings, and short good ones, tables, code and marks are spared."""

from __future__ import annotations

import pytest

from synth.text.degenerate import is_degenerate


@pytest.mark.parametrize(
    "reply",
    [
        "vast and mysterious|...|",
        "The sea is wide|...|\n",
        "A cat sat down<|...|>",
        "Red, green and blue|.|..|",
        "First line.\nSecond line|?!|",
        "Bonjour|…|",
    ],
)
def test_the_remains_of_a_special_token_are_broken(reply: str) -> None:
    assert is_degenerate(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "Paris.",
        "4",
        "vast and mysterious",
        "Yes",
        "B",
        "€ 24",
        "3:00 p.m.",
        "amico means friend",
        "Hmm...",
        "Wait for it...",
        "…and so it ended.",
        "| name | age |\n| --- | --- |\n| Anna | 12 |",
        "name | age\n---|---",
        "name | age\n:---|:---:|",
        "name|age|\nAnna|12|",
        "|x| is the absolute value",
        "The norm is |v|",
        "Its length is |·|",
        "Use a || b",
        "if ready ||",
        "cat notes.txt | sort | uniq -c",
        "print('a|.|b')",
        "The regular expression is `a|.|b`",
        "P(A|B)",
        "Select one: (a)|(b)|(c)",
        "SELECT COUNT(*) FROM books;",
        "def add(a, b):\n    return a + b",
        "¡Gracias!",
        "谢谢。",
        "😀 Great!",
    ],
)
def test_short_good_replies_are_not_broken(reply: str) -> None:
    assert not is_degenerate(reply)


def test_a_rule_without_a_table_is_broken() -> None:
    assert is_degenerate("-----\n|---|---|\n-----")
