"""When a search has done enough: trials, hours, a target reached, or a front that stays flat.

All of it is read from the finished trials, so a search that has stopped stays stopped, and one
whose rules are loosened goes on.
"""

from __future__ import annotations

import math

import optuna
from optuna.trial import TrialState

from search.config import SearchConfig
from search.results.pareto import hypervolume
from search.samplers.unit_cube import violation_of

SECONDS = "seconds"  # user attribute of a finished trial: how long it took, by a steady clock
_FLAT = 1e-3  # growth of the hypervolume, which lies in [0, 1], that counts as none


def reason_to_stop(study: optuna.Study, config: SearchConfig) -> str | None:
    """Why a search is over, as a clause for people; None where it goes on."""
    rules = config.search.stop
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(trials) >= config.search.trials:
        return f"{len(trials)} trials are complete"
    if rules.hours is not None:
        every = study.get_trials(deepcopy=False)
        hours = math.fsum(trial.user_attrs.get(SECONDS, 0.0) for trial in every) / 3600
        if hours >= rules.hours:
            return f"trials have taken {hours:.3g} hours"
    within = [trial if violation_of(trial) == 0.0 else None for trial in trials]
    for trial in within if rules.target else ():
        if trial is not None and _reaches(trial.values, config):
            return f"trial {trial.number} reaches the target"
    if rules.flat is not None and len(trials) > rules.flat:
        signs = [1.0 if up else -1.0 for up in config.directions.values()]
        gains = [
            tuple(sign * value for sign, value in zip(signs, trial.values, strict=True))
            if trial is not None
            else None
            for trial in within
        ]
        now, before = (
            hypervolume([gain for gain in part if gain is not None], config.directions)
            for part in (gains, gains[: -rules.flat])
        )
        if before > 0.0 and now - before <= _FLAT:
            return f"the hypervolume of the front was flat over the last {rules.flat} trials"
    return None


def _reaches(values: list[float], config: SearchConfig) -> bool:
    """Whether a trial's values are all at their targets or better."""
    found = dict(zip(config.directions, values, strict=True))
    return all(
        found[name] >= bound if config.directions[name] else found[name] <= bound
        for name, bound in config.search.stop.target.items()
    )
