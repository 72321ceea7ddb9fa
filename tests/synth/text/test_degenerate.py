"""A reply is broken by its answer, not by its thinking."""

from __future__ import annotations

import pytest

from synth.judges.phrases import phrase_verdict
from synth.probes.verdict import Verdict
from synth.text.degenerate import is_broken

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
