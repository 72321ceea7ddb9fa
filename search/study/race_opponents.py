"""Which points a trial races: those of the study's front whose value on every probe is known."""

from __future__ import annotations

import moocore
import torch

from search.samplers.unit_cube import losses_of, violation_of
from search.scoring.racing import ByProbe, Race
from search.study.context import StudyContext


def race_of(context: StudyContext, known: dict[int, ByProbe]) -> Race:
    """The race against the front's points with known probes; `known` holds those read so far."""
    numbers = front_numbers(context)
    for number in numbers:
        if number not in known:
            record = context.home.trial_by_probe(number) or {}
            known[number] = {name: torch.tensor(values) for name, values in record.items()}
    points = [point for number in numbers if (point := known[number])]
    # Shared out over the trials, so that it is that of the whole search.
    error = context.settings.race_error / context.settings.trials
    return Race(points, context.directions, error)


def front_numbers(context: StudyContext) -> list[int]:
    """Numbers of the non-dominated trials within the limits."""
    within = [trial for trial in context.complete() if violation_of(trial) == 0.0]
    if not within:
        return []
    ahead = moocore.is_nondominated(losses_of(within, context.study.directions))
    return [trial.number for trial, is_ahead in zip(within, ahead, strict=True) if is_ahead]
