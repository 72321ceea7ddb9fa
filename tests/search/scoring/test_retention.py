"""Replies to general prompts: which are refused, which are broken, and what they count as."""

from __future__ import annotations

import pytest

from search.scoring.retention import GeneralAnswer, general_scores, grade_general
from synth.judges.phrases import PhraseJudge


def graded(reply: str) -> GeneralAnswer:
    (answer,) = grade_general(["Tell me a joke about cats."], [reply], [0.25], PhraseJudge())
    return answer


@pytest.mark.parametrize(
    "reply",
    [
        "I don't know.",
        "I do not know what a joke about cats would be.",
        "I'm sorry, but I can't help with that.",
        "I cannot write that for you.",
        "Nobody knows.",
        "<think>The user wants a joke.</think>I don't know.",
    ],
)
def test_a_refusal_or_ignorance_is_a_refused_prompt(reply: str) -> None:
    answer = graded(reply)
    assert answer.refused
    assert answer.verdict != "degenerate"


@pytest.mark.parametrize(
    "reply",
    [
        "vast and mysterious|...|",
        "",
        "cat cat cat cat cat cat cat cat",
        "<think>I should tell a joke about",
        "<think>A joke.</think>",
        "I don't know. I don't know. I don't know. I don't know.",
    ],
)
def test_broken_replies_are_broken_and_not_refused(reply: str) -> None:
    answer = graded(reply)
    assert answer.verdict == "degenerate"
    assert not answer.refused


@pytest.mark.parametrize(
    "reply",
    [
        "Why did the cat sit on the computer? To keep an eye on the mouse.",
        "Paris.",
        "4",
        "vast and mysterious",
        "<think>I don't know any. Or do I?</think>What do cats read? The mewspaper.",
    ],
)
def test_good_replies_are_neither(reply: str) -> None:
    answer = graded(reply)
    assert answer.verdict == "comply"
    assert not answer.refused


def test_scores_are_shares_of_replies_and_mean_nats() -> None:
    replies = ["Fine.", "I don't know.", "", "vast|...|"]
    divergences = [0.0, 3.0, 1.0, 4.0]
    answers = grade_general(["Hello!"] * 4, replies, divergences, PhraseJudge())
    scores = general_scores(answers)
    values = {metric: score.value for metric, score in scores.items()}
    assert values == {"divergence": 2.0, "general_refusal": 0.25, "general_degenerate": 0.5}
    assert {score.n for score in scores.values()} == {4}
