"""Answers to the general prompts: of trials near the front, and of all rows of the held-out table.

They are kept beside the answers to probes, in a folder `general`, and forgotten with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safemerge.score import Score
from search.metrics import RETENTION, ReferenceScores
from search.results.answers import Respondent, ValidationScores, respondent
from search.results.pareto import Candidate
from search.runs.retention import ask_general, know_base, read_answers, write_answers
from search.runs.rundir import RunDir
from search.runs.workbench import Workbench
from search.scoring.retention import general_scores
from synth.judges import Judge
from synth.probes.general import Half
from synth.progress import Report, silent

_VALIDATION, _HELDOUT = "validation/general", "heldout/general"


@dataclass(frozen=True, slots=True)
class GeneralAsker:
    """Asks models the general prompts of one half, each once in a run."""

    home: RunDir
    bench: Workbench
    half: Half
    folder: str  # of the answers
    max_tokens: int
    judge: Judge

    def scores(self, model: Respondent, *, live: bool = False) -> dict[str, Score]:
        """The retention metrics of a model; empty where retention is not measured.

        `live` says that its weights are in place.
        """
        if self.bench.general is None:
            return {}
        file = f"{self.folder}/{model.file}"
        answers = read_answers(self.home, file)
        if answers is None:
            if not live:
                model.make_live()
            bench = model.bench(self.bench)
            answers = ask_general(bench, self.half, self.max_tokens, self.judge)
            write_answers(self.home, file, answers)
        return general_scores(answers)


def heldout_asker(home: RunDir, bench: Workbench, max_tokens: int, judge: Judge) -> GeneralAsker:
    """Asks the held-out half; the base has answered it then."""
    if bench.general is not None:
        base = f"{_HELDOUT}/base.jsonl"
        kept = read_answers(home, base)
        answers = know_base(bench, "heldout", max_tokens, judge, kept)
        if kept is None:
            write_answers(home, base, answers)
    return GeneralAsker(home, bench, "heldout", _HELDOUT, max_tokens, judge)


def with_general(
    answered: ValidationScores,
    trials: Sequence[Candidate],
    asker: GeneralAsker,
    baseline: ReferenceScores,
    report: Report = silent,
) -> ValidationScores:
    """Scores of answers with the retention metrics; those of base and sources are of the start."""

    def known(scores: Mapping[str, Score]) -> dict[str, Score]:
        return {metric: scores[metric] for metric in RETENTION if metric in scores}

    retention: dict[int, dict[str, Score]] = {}
    for done, trial in enumerate(trials):
        report("answers to general prompts", done, len(trials), f"trial {trial.number}")
        retention[trial.number] = asker.scores(respondent(asker.bench, trial))
    report("answers to general prompts", len(trials), len(trials), "")
    before = answered.baseline
    return ValidationScores(
        ReferenceScores(
            {**before.base, **known(baseline.base)},
            {
                name: {**row, **known(baseline.sources[name])}
                for name, row in before.sources.items()
            },
        ),
        {number: {**answered.trials[number], **row} for number, row in retention.items()},
        answered.values,
    )


def validation_asker(home: RunDir, bench: Workbench, max_tokens: int) -> GeneralAsker:
    """Asks the search half, which the base has answered at the start."""
    return GeneralAsker(home, bench, "search", _VALIDATION, max_tokens, bench.judge)
