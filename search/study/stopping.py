"""When a search has done enough: trials, hours, a target reached, or a front that stays flat.

Only finished trials decide, and a target is reached by replies, not by what a map that is still
being refitted makes of likelihoods. So a search that has stopped stays stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from safemerge.score import Scores
from search.metrics import signs
from search.results.pareto import hypervolume
from search.samplers.unit_cube import violation_of
from search.study.context import StudyContext

SECONDS = "seconds"  # user attribute of a finished trial: how long it took, by a steady clock
_FLAT = 1e-3  # growth of the hypervolume, which lies in [0, 1], that counts as none


def reason_to_stop(context: StudyContext) -> str | None:
    """Why a search is over, as a clause for people; None where it goes on."""
    rules, directions = context.settings.stop, context.directions
    trials = context.complete()
    if len(trials) >= context.settings.trials:
        return f"{len(trials)} trials are complete"
    if rules.hours is not None:
        seconds = (trial.user_attrs.get(SECONDS, 0.0) for trial in context.trials())
        hours = math.fsum(seconds) / 3600
        if hours >= rules.hours:
            return f"trials have taken {hours:.3g} hours"
    sign = signs(directions)
    gains = {
        trial.number: [s * value for s, value in zip(sign.values(), trial.values, strict=True)]
        for trial in trials
        if violation_of(trial) == 0.0
    }
    target = [s * rules.target.get(name, -s * math.inf) for name, s in sign.items()]
    known, how = gains, "likelihood"
    if rules.target and context.current is not None:
        known, how = _by_replies(gains, sign, context.rates().trials), "its replies"
    for number, row in known.items() if rules.target else ():
        if all(gain >= least for gain, least in zip(row, target, strict=True)):
            return f"trial {number} reaches the target, by {how}"
    if rules.flat is not None and len(trials) > rules.flat:
        last = {trial.number for trial in trials[-rules.flat :]}
        now = hypervolume(list(gains.values()), directions)
        earlier = [row for number, row in gains.items() if number not in last]
        before = hypervolume(earlier, directions)
        if before > 0.0 and now - before <= _FLAT:
            return f"the hypervolume of the front was flat over the last {rules.flat} trials"
    return None


def _by_replies(
    gains: Mapping[int, list[float]], sign: Mapping[str, float], replies: Mapping[int, Scores]
) -> dict[int, list[float]]:
    """The gains of the trials that have answered, by their replies where these tell of them."""
    return {
        number: [
            s * replies[number][name].value if name in replies[number] else value
            for (name, s), value in zip(sign.items(), row, strict=True)
        ]
        for number, row in gains.items()
        if number in replies
    }
