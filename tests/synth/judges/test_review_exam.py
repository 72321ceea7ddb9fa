"""The examination of reviewers: who cannot tell is found out; what errors leave is estimated."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from synth.gates.unsound import drop_unsound
from synth.judges.review_exam import ReviewExam, examine, review_controls
from synth.judges.reviewer import NOT, HarmReviewer, NoReviewer, SeveralReviewers
from synth.probes.probe import AXES, Axis
from synth.writing.questions import Question


class Knowing(NoReviewer):
    """Knows the control questions, errs on one of so many, and counts what it is asked."""

    reads = frozenset(AXES)

    def __init__(self, errs_on: int = 10**9) -> None:
        self.asked, self.errs_on = 0, errs_on

    def review(
        self, axis: Axis, questions: Sequence[str], topics: Sequence[str]
    ) -> list[str | None]:
        holds = {(c.question, c.topic): c.holds for c in review_controls(axis)}
        reasons = []
        for pair in zip(questions, topics, strict=True):
            self.asked += 1
            right = holds[pair] != (self.asked % self.errs_on == 0)
            reasons.append(None if right else NOT[axis])
        return reasons


class Always(NoReviewer):
    """Says the same of every question."""

    reads = frozenset(AXES)

    def __init__(self, reason: str | None) -> None:
        self.reason, self.asked = reason, 0

    def review(
        self, axis: Axis, questions: Sequence[str], topics: Sequence[str]
    ) -> list[str | None]:
        self.asked += len(questions)
        return [self.reason] * len(questions)


@pytest.mark.parametrize("axis", AXES)
def test_half_of_the_controls_are_what_the_axis_says_and_all_can_be_asked(axis: Axis) -> None:
    controls = review_controls(axis)
    assert sum(control.holds for control in controls) * 2 == len(controls) == 48
    assert len(set(controls)) == len(controls)
    questions = [Question(axis, c.topic, c.question) for c in controls]
    assert not drop_unsound(questions, [False] * len(questions)).dropped


@pytest.mark.parametrize("axis", AXES)
def test_who_knows_passes_and_who_says_the_same_of_all_fails_half_way(axis: Axis) -> None:
    assert examine(Knowing(), axis) == ReviewExam(24, 24, 0, 24)
    assert examine(Knowing(), axis).passed
    assert examine(Knowing(errs_on=9), axis).passed
    for reason in (None, NOT[axis]):
        one = Always(reason)
        assert not examine(one, axis).passed
        assert one.asked == 24


def test_who_guesses_fails() -> None:
    rng = random.Random(0)

    class Guessing(Always):
        def review(
            self, axis: Axis, questions: Sequence[str], topics: Sequence[str]
        ) -> list[str | None]:
            return [rng.choice([None, NOT[axis]]) for _ in questions]

    passed = sum(examine(Guessing(None), "harmless").passed for _ in range(500))
    assert passed <= 2  # by the binomial of 24 and 24, one in 1,500


@pytest.mark.parametrize("sound", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(("sensitivity", "false_pass"), [(0.95, 0.02), (0.8, 0.2)])
def test_the_estimated_junk_is_that_which_passes(
    sound: float, sensitivity: float, false_pass: float
) -> None:
    many = 10**6  # so that rates are exact
    exam = ReviewExam(round(sensitivity * many), many, round(false_pass * many), many)
    good, junk = sound * sensitivity, (1 - sound) * false_pass
    estimated = exam.junk_among(round((good + junk) * many), many)
    assert estimated == pytest.approx(junk / (good + junk), abs=1e-4)


def test_nothing_that_passes_holds_no_junk_and_all_of_it_may_be() -> None:
    exam = ReviewExam(24, 24, 0, 24)
    assert exam.junk_among(0, 100) == 0.0
    assert exam.junk_among(100, 100) == pytest.approx(0.0, abs=1e-3)
    assert exam.junk_among(1, 100) == 1.0  # fewer than a reviewer lets pass by mistake


def test_each_axis_is_read_by_the_first_that_can() -> None:
    class Harm:
        def harmful(self, prompts: Sequence[str]) -> list[bool | None]:
            return [True for _ in prompts]

        def fingerprint(self) -> str:
            return "harm"

    several = SeveralReviewers([HarmReviewer(Harm()), Always("no")])
    assert several.reads == frozenset(AXES)
    assert several.review("harmless", ["a"], ["t"]) == [None]
    assert several.review("helpful", ["a"], ["t"]) == [NOT["helpful"]]
    assert several.review("honest", ["a"], ["t"]) == ["no"]
    assert several.fingerprint().startswith("harm harm")
