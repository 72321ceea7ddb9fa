"""Whom a trial races: the points of a study's front of which every probe is known."""

from __future__ import annotations

import moocore
import optuna
import torch
from optuna.trial import TrialState

from search.config import SearchConfig
from search.runs.rundir import RunDir
from search.samplers.unit_cube import losses_of, violation_of
from search.scoring.racing import ByProbe, Race


def race_of(
    home: RunDir, study: optuna.Study, config: SearchConfig, known: dict[int, ByProbe]
) -> Race:
    """The race against the points of the front of which every probe is known.

    Args:
        home: the run.
        study: its study.
        config: its configuration.
        known: points read so far, which are added to.
    """
    numbers = _front_numbers(study)
    for number in numbers:
        if number not in known:
            record = home.trial_by_probe(number) or {}
            known[number] = {name: torch.tensor(values) for name, values in record.items()}
    points = [point for number in numbers if (point := known[number])]
    return Race(points, config.directions)


def _front_numbers(study: optuna.Study) -> list[int]:
    """The front's trials within the limits: `study.best_trials`, which copies all of them first."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    within = [trial for trial in complete if violation_of(trial) == 0.0]
    if not within:
        return []
    ahead = moocore.is_nondominated(losses_of(within, study.directions))
    return [trial.number for trial, kept in zip(within, ahead, strict=True) if kept]
