"""Rates of replies for all trials of a run: read where a trial has answered, else estimated.

Base, sources and some trials have answered the validation probes. Through them a map of each metric
is fitted (`search.scoring.calibration`), which turns the likelihoods of all trials into rates.
Nothing is stored: all follows from the scores and answers that the run keeps, so that whoever reads
it has the same maps. Held-out answers are never read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from safemerge.score import Score, Scores
from search.config import SearchConfig
from search.metrics import Limits, ReferenceScores
from search.results.answers import FOLDER, TRIAL_FILES, read_answers, reference_files, trial_of
from search.runs.rundir import RunDir
from search.scoring.calibration import AnsweredModel, RateMap, fit_rate_map, with_replies
from search.scoring.generation import answer_scores
from synth.probes.probe import AXES

CALIBRATED = (*AXES, "over_refusal")  # metrics that are likelihoods in trials and rates in replies


@dataclass(frozen=True, slots=True)
class Rates:
    """The maps of a run, and the replies that they are made from; empty, all stays as it is."""

    maps: Mapping[str, RateMap] = field(default_factory=dict)  # `{metric: map}`
    # by replies; base and sources by name
    references: Mapping[str, Scores] = field(default_factory=dict)
    trials: Mapping[int, Scores] = field(default_factory=dict)

    def of(self, scores: Scores, number: int | None = None) -> dict[str, Score]:
        """Scores with rates in place of likelihoods, in all metrics that have a map.

        Args:
            scores: of a model by likelihood, on the search probes.
            number: of the trial, whose own replies, if it has answered, move the estimate.
        """
        own = {} if number is None else self.trials.get(number, {})
        found = dict(scores)
        for metric in self.maps.keys() & scores.keys():
            found[metric] = self.maps[metric].rate(scores[metric])
            if metric in own:
                found[metric] = with_replies(found[metric], own[metric])
        return found

    def baseline(self, by_likelihood: ReferenceScores) -> ReferenceScores:
        """What limits are relative to: replies of base and sources in all metrics with a map."""
        return as_answered(by_likelihood, self.references, self.maps)

    def limits(self, limits: Limits) -> Limits:
        """The limits on what `of` gives."""
        return Limits(limits.limits, self.baseline(limits.baseline))


class CurrentRates:
    """`read_rates` of a run under way, read again when another trial has answered."""

    def __init__(self, home: RunDir, config: SearchConfig, baseline: ReferenceScores) -> None:
        self.home, self.config, self.baseline = home, config, baseline
        self._known: tuple[list[int], Rates] | None = None

    def now(self) -> Rates:
        numbers = _answered(self.home)
        if self._known is None or self._known[0] != numbers:
            self._known = (numbers, read_rates(self.home, self.config, self.baseline))
        return self._known[1]


def read_rates(home: RunDir, config: SearchConfig, baseline: ReferenceScores) -> Rates:
    """The rates of a run as it stands; empty where it wants none."""
    if not config.calibrates:
        return Rates()
    by_likelihood = {"base": baseline.base, **baseline.sources}
    references = {
        name: answer_scores(answers)
        for name, file in reference_files(list(baseline.sources)).items()
        if (answers := read_answers(home, file)) is not None
    }
    trials, models = {}, [(by_likelihood[name], row) for name, row in references.items()]
    for number in _answered(home):
        trials[number] = answer_scores(read_answers(home, TRIAL_FILES.format(number)) or [])
        models.append((home.trial_scores(number) or {}, trials[number]))
    maps = {}
    for metric in CALIBRATED if len(references) == len(by_likelihood) else ():
        both = [
            AnsweredModel(scores[metric], rates[metric])
            for scores, rates in models
            if metric in scores and metric in rates
        ]
        if (fitted := fit_rate_map(both)) is not None:
            maps[metric] = fitted
    return Rates(maps, references, trials)


def as_answered(
    by_likelihood: ReferenceScores, replies: Mapping[str, Scores], metrics: Mapping[str, object]
) -> ReferenceScores:
    """Scores of base and sources with the rates of their replies in place, in these metrics."""

    def row(name: str, scores: Scores) -> dict[str, Score]:
        said = replies.get(name, {})
        return {**scores, **{m: said[m] for m in metrics if m in said and m in scores}}

    return ReferenceScores(
        row("base", by_likelihood.base),
        {name: row(name, scores) for name, scores in by_likelihood.sources.items()},
    )


def _answered(home: RunDir) -> list[int]:
    """Finished trials that have answered; an answer is written before its trial is finished."""
    files = sorted((home.path / FOLDER).glob("trial-*.jsonl"))
    return [n for n in map(trial_of, files) if home.finished(n)]
