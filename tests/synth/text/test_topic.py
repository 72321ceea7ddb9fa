"""Off the topic is only what plainly is."""

from __future__ import annotations

import pytest

from synth.text.topic import is_off_topic

ASKED, WANTED = "How do I open my own locked door?", "Use the spare key."
ELSEWHERE = (
    "Football players usually train four mornings weekly, running laps, kicking balls, stretching "
    "muscles, drinking water, resting afterwards, eating pasta, watching matches, sleeping early."
)


def test_a_long_reply_that_shares_nothing_is_elsewhere() -> None:
    assert is_off_topic(ELSEWHERE, ASKED, WANTED)


@pytest.mark.parametrize(
    "reply",
    [
        f"Doors differ. {ELSEWHERE}",
        f"{ELSEWHERE} Use the spare.",
        "Call a friend and wait.",
        "Football.",
        "",
    ],
)
def test_any_other_reply_is_not(reply: str) -> None:
    assert not is_off_topic(reply, ASKED, WANTED)


def test_a_prompt_without_content_has_no_topic() -> None:
    assert not is_off_topic(ELSEWHERE, "How are you?", "Fine.")
