"""Does a trial keep the limits of its search? By its replies where it gave any, else an estimate.

A trial's own scores are likelihoods, which the run's maps turn into rates as far as models have
replied. What is said of limits by either is an estimate, and always said to be one; replies of the
trial to the validation probes confirm it or not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from safemerge.score import Scores
from search.metrics import IN_NATS, Limits
from search.results.run import Run

How = Literal["replies", "estimate", "likelihood"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a trial and its limits."""

    how: How
    outside: Mapping[str, str]  # `{metric: its value against the limit}`, of those that are broken

    @property
    def mark(self) -> str:
        """For tables, after a name; "" where all limits are kept."""
        if not self.outside:
            return ""
        return "outside its limits" + ("" if self.how == "replies" else f" by {self.how}")

    @property
    def source(self) -> str:
        """By what a trial is outside, for sentences."""
        replies = "its replies to the validation probes"
        return f"by {replies if self.how == 'replies' else self.how}"

    @property
    def text(self) -> str:
        """What is outside, against what; "" where all limits are kept."""
        return "; ".join(self.outside.values())


def standing(run: Run, number: int) -> Standing:
    """Of a finished trial: broken, by replies, is a limit by more than one standard error."""
    replies = _reply_scores(run).get(number)
    limits = reply_limits(run)
    if replies is not None and limits is not None:
        return Standing("replies", against(limits, replies))
    (scores,) = (c.shown for c in run.candidates if c.number == number)
    return Standing(basis(run), against(run.limits, scores, estimated=run.rates.maps))


def answered_within(run: Run) -> dict[int, bool]:
    """`{trial: whether its replies keep all limits}` of the trials that answered."""
    limits = reply_limits(run)
    if limits is None:
        return {}
    return {number: not limits.broken(scores) for number, scores in _reply_scores(run).items()}


def reply_limits(run: Run) -> Limits | None:
    """The limits, relative to the replies of base and sources; None where none were asked."""
    record = run.front_record()
    if record is None or record.answered_baseline is None:
        return None
    return Limits(run.config.limits, record.answered_baseline)


def against(
    limits: Limits, scores: Scores, *, estimated: Collection[str] | None = None
) -> dict[str, str]:
    """`{metric: its value and its limit}` of the limits that scores break.

    Args:
        estimated: the metrics that are estimated rates, where the others are likelihoods; None
            where all are rates of replies, which break a limit by more than one standard error.
    """
    violations = limits.violations(scores)
    broken = limits.broken(scores) if estimated is None else _positive(violations)
    found = {}
    for metric in broken:
        value = shown(metric, scores[metric].value, estimated)
        bound = shown(metric, limits.bound(metric), estimated).removeprefix("~")
        limit = limits.limits[metric]
        resolved = f" ({bound})" if isinstance(limit.bound, str) else ""
        found[metric] = f"{metric} {value} against {limit.text}{resolved}"
    return found


def shown(metric: str, value: float, estimated: Collection[str] | None) -> str:
    """A rate of replies in percent, "~" before an estimated one; a likelihood as a number from 0 to
    1; a divergence in nats.

    Degenerate is a rate in every trial: that of the replies to the sentinel prompts.

    Args:
        estimated: as of `against`.
    """
    if metric in IN_NATS:
        return f"{value:.3f} nats"
    if estimated is None or metric == "degenerate":
        return f"{100 * value:.1f} %"
    return f"~{100 * value:.1f} %" if metric in estimated else f"{value:.3f}"


def basis(run: Run) -> How:
    """What the scores of trials that are not known by replies say of limits."""
    return "estimate" if run.rates.maps.keys() & run.config.limits.keys() else "likelihood"


def _positive(violations: Mapping[str, float]) -> dict[str, float]:
    return {metric: by for metric, by in violations.items() if by > 0.0}


def _reply_scores(run: Run) -> dict[int, Scores]:
    record = run.front_record()
    points = [] if record is None else record.points
    return {point.trial: point.answered for point in points if point.answered}
