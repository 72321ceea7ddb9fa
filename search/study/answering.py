"""Which trials answer the validation probes while the search runs: few, for replies are dear.

The first half of `search.calibrate` go to the trials that come first, those of the warm start,
whose trade-offs are spread; the likelihoods of all others are read through their replies. The rest
go to trials that would be on the front if they keep their limits, and of which the estimate cannot
say whether they do: it lies within one standard error of a bound. A trial that seems to reach the
target always answers, since replies alone end a search.
"""

from __future__ import annotations

from search.metrics import gains
from search.results.rates import Rates
from search.samplers.unit_cube import violation_of
from search.scoring.likelihood import Measurement
from search.study.context import StudyContext


def should_answer(context: StudyContext, measured: Measurement) -> bool:
    """Whether a trial that has just been scored answers.

    One that was not asked all probes, being broken or behind the front, never does.
    """
    if context.current is None or measured.by_probe is None:
        return False
    rates = context.rates()
    if _seems_to_reach_target(context, measured, rates):
        return True
    most, answered = context.settings.calibrate, len(rates.trials)
    if answered >= most:
        return False
    return 2 * answered < most or (
        _limits_open(context, measured, rates) and not _behind(context, measured)
    )


def _limits_open(context: StudyContext, measured: Measurement, rates: Rates) -> bool:
    """Whether a trial is surely outside of no limit, and within one standard error of one."""
    scores = rates.of(measured.scores)
    violations = rates.limits(context.limits).violations(scores)
    errors = {m: scores[m].stderr if m in rates.maps else 0.0 for m in violations}
    if any(by > errors[metric] for metric, by in violations.items()):
        return False
    return any(abs(by) <= errors[m] for m, by in violations.items() if m in rates.maps)


def _behind(context: StudyContext, measured: Measurement) -> bool:
    """Whether a finished trial within the limits is better in an objective and worse in none."""
    own = gains(measured.scores, context.directions)
    signs = [1.0 if larger else -1.0 for larger in context.directions.values()]
    for trial in context.complete():
        if violation_of(trial) == 0.0:
            other = tuple(s * value for s, value in zip(signs, trial.values, strict=True))
            if other != own and all(b >= a for a, b in zip(own, other, strict=True)):
                return True
    return False


def _seems_to_reach_target(context: StudyContext, measured: Measurement, rates: Rates) -> bool:
    target = context.settings.stop.target
    scores = rates.of(measured.scores)
    return bool(target) and all(
        scores[name].value >= least if larger else scores[name].value <= least
        for name, larger in context.directions.items()
        if (least := target.get(name)) is not None
    )
