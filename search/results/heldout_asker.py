"""Lets models answer the held-out probes and the held-out half of the general prompts."""

from __future__ import annotations

from functools import partial

from safemerge.score import Score
from search.config import SearchConfig
from search.results.answers import Respondent, forget_others, kept_answers
from search.results.general_answers import heldout_asker
from search.results.heldout_answers import FOLDER
from search.runs.probe_sets import heldout_judge
from search.runs.rundir import RunDir
from search.runs.workbench import Workbench
from search.scoring.generation import Answer, answer_scores, score_generations
from synth.progress import Report


class HeldOutAsker:
    """Asks models in one run, and keeps their answers.

    No model answers twice, unless for another judge or engine.
    """

    def __init__(
        self, home: RunDir, bench: Workbench, config: SearchConfig, report: Report
    ) -> None:
        section = config.probes
        report("held-out: judge and general prompts", 0, 1, "")
        self._home, self._bench, self._max_tokens = home, bench, section.max_tokens
        self._other = heldout_judge(config)
        self.probes = bench.probes.split("heldout").probes
        judges = [judge.fingerprint() for judge in (self._other, bench.judge) if judge is not None]
        asked = {"judges": judges, "engine": bench.settings.kind, **bench.grading}
        forget_others(home, FOLDER, asked)
        self._general = heldout_asker(home, bench, section.max_tokens, self._other or bench.judge)
        report("held-out: judge and general prompts", 1, 1, "")

    def ask(self, row: Respondent) -> tuple[list[Answer], dict[str, Score]]:
        """Answers of a model to the probes, and its scores by generation, retention included."""
        answers = kept_answers(self._home, f"{FOLDER}/{row.file}", partial(self._answers, row))
        return answers, {**answer_scores(answers), **self._general.scores(row)}

    def _answers(self, row: Respondent) -> list[Answer]:
        row.make_live()
        _, answers = score_generations(
            row.bench(self._bench).generation_engine(),
            self.probes,
            self._other or self._bench.judge,
            max_tokens=self._max_tokens,
            second=self._bench.judge if self._other else None,
            grader=self._bench.grader,
        )
        self._general.scores(row, live=True)
        return answers
