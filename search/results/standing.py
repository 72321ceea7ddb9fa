"""Does a trial keep the limits of its search? By its replies where it gave any, else an estimate.

A trial's own scores are likelihoods. What is said of limits by them is an estimate, and always said
to be one; replies to the validation probes confirm it or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from safemerge.score import Scores
from search.metrics import IN_NATS, Limits
from search.results.run import Run


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a trial and its limits."""

    by_replies: bool  # else by likelihood
    outside: Mapping[str, str]  # `{metric: its value against the limit}`, of those that are broken

    @property
    def mark(self) -> str:
        """For tables, after a name; "" where all limits are kept."""
        if not self.outside:
            return ""
        return "outside its limits" + ("" if self.by_replies else " by likelihood")

    @property
    def text(self) -> str:
        """What is outside, against what; "" where all limits are kept."""
        return "; ".join(self.outside.values())


def standing(run: Run, number: int) -> Standing:
    """Of a finished trial: broken, by replies, is a limit by more than one standard error."""
    replies = _reply_scores(run).get(number)
    limits = reply_limits(run)
    if replies is not None and limits is not None:
        return Standing(True, against(limits, replies, by_replies=True))
    (scores,) = (c.scores for c in run.candidates if c.number == number)
    return Standing(False, against(run.limits, scores, by_replies=False))


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


def against(limits: Limits, scores: Scores, *, by_replies: bool) -> dict[str, str]:
    """`{metric: its value and its limit}` of the limits that scores break."""
    violations = limits.violations(scores)
    broken = limits.broken(scores) if by_replies else {m: v for m, v in violations.items() if v > 0}
    found = {}
    for metric in broken:
        value, bound = (
            shown(metric, number, by_replies=by_replies)
            for number in (scores[metric].value, limits.bound(metric))
        )
        limit = limits.limits[metric]
        resolved = f" ({bound})" if isinstance(limit.bound, str) else ""
        found[metric] = f"{metric} {value} against {limit.text}{resolved}"
    return found


def shown(metric: str, value: float, *, by_replies: bool) -> str:
    """A rate of replies in percent; a likelihood as a number from 0 to 1; a divergence in nats.

    Degenerate is a rate in every trial: that of the replies to the sentinel prompts.
    """
    if metric in IN_NATS:
        return f"{value:.3f} nats"
    return f"{100 * value:.1f} %" if by_replies or metric == "degenerate" else f"{value:.3f}"


def _reply_scores(run: Run) -> dict[int, Scores]:
    record = run.front_record()
    points = [] if record is None else record.points
    return {point.trial: point.answered for point in points if point.answered}
