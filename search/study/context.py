"""StudyContext: an open study with the settings, objectives and limits of its trials."""

from __future__ import annotations

from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.config import SearchConfig, StudyConfig
from search.metrics import Directions, Limits, ReferenceScores
from search.runs.rundir import RunDir
from synth.progress import Report


@dataclass(frozen=True, slots=True)
class StudyContext:
    """What all code that works on a study shares."""

    home: RunDir  # the run, which this process holds or has joined
    study: optuna.Study
    settings: StudyConfig
    directions: Directions
    limits: Limits

    @classmethod
    def of(
        cls, home: RunDir, study: optuna.Study, config: SearchConfig, baseline: ReferenceScores
    ) -> StudyContext:
        limits = Limits(config.limits, baseline)
        return cls(home, study, config.search, config.directions, limits)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """All trials in order of their numbers, or those in these states; not to be changed."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def complete(self) -> list[FrozenTrial]:
        """The finished trials, in order of their numbers."""
        return self.trials(TrialState.COMPLETE)

    def show(self, report: Report) -> None:
        """Report how many trials are complete, and the objectives of the last one."""
        complete = self.complete()
        # The highest number, not the latest by the clock, which may be set back.
        values = zip(self.directions, complete[-1].values if complete else (), strict=False)
        scores = "  ".join(f"{name} {value:.3f}" for name, value in values)
        note = f"by likelihood: {scores}" if scores else ""
        report("trials", len(complete), self.settings.trials, note)
