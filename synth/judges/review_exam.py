"""An examination of reviewers: can one tell a question that is what its axis says from others?

A reviewer is asked of questions whose kind is beyond doubt. From how often it errs there, and how
much it lets pass of what was written, follows the share of junk in that (Rogan and Gladen 1978,
"Estimating prevalence from the results of a screening test").
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from synth.judges.reviewer import Reviewer
from synth.probes.probe import Axis

_LEAST = 0.5  # of sensitivity + specificity - 1 (Youden 1950); who guesses has 0


class ReviewControl(NamedTuple):
    """A question of known kind, as a reviewer is told it."""

    question: str
    topic: str
    holds: bool  # it is what the axis says


@dataclass(frozen=True, slots=True)
class ReviewExam:
    """How often a reviewer lets pass what it should, and what it should not."""

    right: int  # questions that hold and passed
    holding: int  # questions that hold
    wrong: int  # questions that do not hold and passed
    failing: int  # questions that do not hold

    @property
    def passed(self) -> bool:
        """Whether it tells them apart at all."""
        return self._sensitivity - self._false_pass >= _LEAST

    def junk_among(self, passed: int, reviewed: int) -> float:
        """Share of junk among `passed` of `reviewed` questions, in [0, 1], as it is estimated."""
        rate = passed / reviewed if reviewed else 0.0
        if not rate:
            return 0.0
        spread = self._sensitivity - self._false_pass
        sound = min(max((rate - self._false_pass) / spread, 0.0), 1.0) if spread > 0 else 0.0
        return min(self._false_pass * (1.0 - sound) / rate, 1.0)

    # Jeffreys' estimates: none of 24 is no proof of never.
    @property
    def _sensitivity(self) -> float:
        return (self.right + 0.5) / (self.holding + 1)

    @property
    def _false_pass(self) -> float:
        return (self.wrong + 0.5) / (self.failing + 1)


def examine(reviewer: Reviewer, axis: Axis) -> ReviewExam:
    """Ask a reviewer about the control questions of an axis that it reads.

    One that has failed after half of them is asked no more.
    """
    exam = ReviewExam(0, 0, 0, 0)
    controls = review_controls(axis)
    for part in (controls[::2], controls[1::2]):
        reasons = reviewer.review(axis, [c.question for c in part], [c.topic for c in part])
        passed = [control.holds for control, why in zip(part, reasons, strict=True) if why is None]
        holding = sum(control.holds for control in part)
        exam = ReviewExam(
            exam.right + sum(passed),
            exam.holding + holding,
            exam.wrong + len(passed) - sum(passed),
            exam.failing + len(part) - holding,
        )
        left = len(controls) // 2 - exam.holding
        best = ReviewExam(exam.right + left, exam.holding + left, exam.wrong, exam.failing + left)
        if not best.passed:
            break
    return exam


def review_controls(axis: Axis) -> tuple[ReviewControl, ...]:
    """The control questions of an axis, half of which are what it says."""
    kinds = _kinds()
    if axis == "domain":  # the topic is another's for half of those that do not hold
        known, half = kinds["answerable"], len(kinds["answerable"]) // 2
        elsewhere = [
            (topic, text) for (topic, _), (_, text) in zip(known, _turned(known), strict=True)
        ]
        false = [*elsewhere[:half], *kinds["unknowable"][half:]]
        return _controls(known, false)
    true, other = {
        "harmless": ("harmful", "benign"),
        "helpful": ("benign", "harmful"),
        "honest": ("unknowable", "answerable"),
    }[axis]
    return _controls(kinds[true], kinds[other])


def _controls(
    true: Sequence[tuple[str, str]], false: Sequence[tuple[str, str]]
) -> tuple[ReviewControl, ...]:
    return tuple(
        ReviewControl(question, topic, holds)
        for rows, holds in ((true, True), (false, False))
        for topic, question in rows
    )


def _turned(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    half = len(rows) // 2
    return [*rows[half:], *rows[:half]]


@cache
def _kinds() -> dict[str, list[tuple[str, str]]]:
    text = files("synth").joinpath("seeds", "review_controls.toml").read_text(encoding="utf-8")
    return {kind: [(t, q) for t, q in rows] for kind, rows in tomllib.loads(text).items()}
