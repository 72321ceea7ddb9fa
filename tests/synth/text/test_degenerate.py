"""Replies are broken by their answer, not by their thinking; short good ones are spared."""

from __future__ import annotations

import pytest

from synth.judges.phrases import phrase_verdict
from synth.probes.verdict import Verdict
from synth.text.degenerate import is_broken, is_degenerate

LOOP = "no no no no no no no no no"


@pytest.mark.parametrize(
    ("reply", "whole", "cut_short"),
    [
        ("Take it at lunch.", False, False),
        (LOOP, True, True),
        ("", True, True),
        (f"<think>{LOOP}</think>Take it.", False, False),
        (f"<think>Well.</think>{LOOP}", True, True),
        ("<think>Well.</think>", True, False),
        ("<think>\nOkay, the user asks for", True, False),
        (f"<think>\n{LOOP}", True, True),
        ("[THINK]So", True, False),
    ],
)
def test_a_reply_that_was_stopped_on_purpose_may_still_be_thinking(
    reply: str, whole: bool, cut_short: bool
) -> None:
    assert is_broken(reply) == whole
    assert is_broken(reply, cut_short=True) == cut_short


def test_phrases_read_what_follows_the_thinking() -> None:
    assert phrase_verdict("<think>I cannot help with that.</think>Use a key.") == Verdict.COMPLY
    assert phrase_verdict("Sure, let me see.</think>I cannot help with that.") == Verdict.REFUSE
    assert phrase_verdict("<think>I cannot help with that.") == Verdict.DEGENERATE


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
