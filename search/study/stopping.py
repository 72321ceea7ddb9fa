"""When a search has done enough: trials, hours, a target reached, or a front that stays flat.

Only finished trials decide, so a search that has stopped stays stopped, and one whose rules are
loosened goes on.
"""

from __future__ import annotations

import math

import optuna
from optuna.trial import TrialState

from search.config import StudyConfig
from search.metrics import Directions, signs
from search.results.pareto import hypervolume
from search.samplers.unit_cube import violation_of

SECONDS = "seconds"  # user attribute of a finished trial: how long it took, by a steady clock
_FLAT = 1e-3  # growth of the hypervolume, which lies in [0, 1], that counts as none


def reason_to_stop(
    study: optuna.Study, settings: StudyConfig, directions: Directions
) -> str | None:
    """Why a search is over, as a clause for people; None where it goes on."""
    rules = settings.stop
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(trials) >= settings.trials:
        return f"{len(trials)} trials are complete"
    if rules.hours is not None:
        every = study.get_trials(deepcopy=False)
        hours = math.fsum(trial.user_attrs.get(SECONDS, 0.0) for trial in every) / 3600
        if hours >= rules.hours:
            return f"trials have taken {hours:.3g} hours"
    # Values with the sign that makes larger better; None outside the limits.
    gains = [
        tuple(sign * value for sign, value in zip(signs(directions), trial.values, strict=True))
        if violation_of(trial) == 0.0
        else None
        for trial in trials
    ]
    target = [
        sign * rules.target.get(name, -sign * math.inf)
        for name, sign in zip(directions, signs(directions), strict=True)
    ]
    for trial, row in zip(trials, gains, strict=True) if rules.target else ():
        if row is not None and all(g >= t for g, t in zip(row, target, strict=True)):
            return f"trial {trial.number} reaches the target"
    if rules.flat is not None and len(trials) > rules.flat:
        now, before = (
            hypervolume([row for row in part if row is not None], directions)
            for part in (gains, gains[: -rules.flat])
        )
        if before > 0.0 and now - before <= _FLAT:
            return f"the hypervolume of the front was flat over the last {rules.flat} trials"
    return None
