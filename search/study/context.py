"""StudyContext: an open study with the settings, objectives and limits of its trials."""

from __future__ import annotations

from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from safemerge.score import Scores
from search.config import SearchConfig, StudyConfig
from search.metrics import Directions, Limits, ReferenceScores
from search.results.rates import CurrentRates, Rates
from search.runs.rundir import RunDir
from synth.progress import Report


@dataclass(frozen=True, slots=True)
class StudyContext:
    """What all code that works on a study shares."""

    home: RunDir  # the run, which this process holds or has joined
    study: optuna.Study
    settings: StudyConfig
    directions: Directions
    limits: Limits  # on likelihoods
    current: CurrentRates | None = None  # None where likelihoods are not read as rates

    @classmethod
    def of(
        cls, home: RunDir, study: optuna.Study, config: SearchConfig, baseline: ReferenceScores
    ) -> StudyContext:
        limits = Limits(config.limits, baseline)
        current = CurrentRates(home, config, baseline) if config.calibrates else None
        return cls(home, study, config.search, config.directions, limits, current)

    @property
    def reply_tokens(self) -> int:
        """Longest reply of a trial that answers."""
        assert self.current is not None  # the callers see to it
        return self.current.config.probes.max_tokens

    def rates(self) -> Rates:
        """What likelihoods mean in rates, as far as is known by now."""
        return Rates() if self.current is None else self.current.now()

    def violations(self, number: int, scores: Scores) -> dict[str, float]:
        """`Limits.violations` of a finished trial: of its rates, as far as these are known."""
        rates = self.rates()
        return rates.limits(self.limits).violations(rates.of(scores, number))

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """All trials in order of their numbers, or those in these states; not to be changed."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def complete(self) -> list[FrozenTrial]:
        """The finished trials, in order of their numbers."""
        return self.trials(TrialState.COMPLETE)

    def show(self, report: Report) -> None:
        """Report how many trials are complete, and the objectives of the last one."""
        complete = self.complete()
        note = ""
        if complete:
            last = complete[-1]  # the highest number, not the latest by the clock
            values, maps = dict(zip(self.directions, last.values, strict=True)), self.rates().maps
            scores = self.rates().of(self.home.trial_scores(last.number) or {}, last.number)
            note = "  ".join(
                f"{name} ~{100 * scores[name].value:.0f} %"
                if name in maps and name in scores
                else f"{name} {value:.3f}"
                for name, value in values.items()
            )
            note = note if maps else f"by likelihood: {note}"
        report("trials", len(complete), self.settings.trials, note)
