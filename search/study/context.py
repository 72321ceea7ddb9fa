"""StudyContext: an open study with the settings, objectives and limits of its trials."""

from __future__ import annotations

from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.config import SearchConfig, StudyConfig
from search.metrics import Baseline, Directions, Limits
from search.runs.rundir import RunDir


@dataclass(frozen=True, slots=True)
class StudyContext:
    """What all code that works on a study shares."""

    home: RunDir  # the run, which this process holds or has joined
    study: optuna.Study
    settings: StudyConfig  # budget, stop rules and workers
    directions: Directions
    limits: Limits  # relative to the run's baseline

    @classmethod
    def of(
        cls, home: RunDir, study: optuna.Study, config: SearchConfig, baseline: Baseline
    ) -> StudyContext:
        """The context of a run's study."""
        limits = Limits(config.limits, baseline)
        return cls(home, study, config.search, config.directions, limits)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """All trials in order of their numbers, or those in these states; not to be changed."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def complete(self) -> list[FrozenTrial]:
        """The finished trials, in order of their numbers."""
        return self.trials(TrialState.COMPLETE)
