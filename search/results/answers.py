"""Answers to the validation probes, by generation, graded and kept in the run.

A likelihood cannot show a model that says the right thing less often than it finds it likely, that
refuses what is harmless, or that babbles. Answers can, but cost a generation each, so only the
trials near the front give them, and base and sources, to which limits may be relative. A file of
answers is whole or not there: after a kill no model is asked twice. Ours.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from safemerge.score import Scores
from search.progress import Report
from search.results.pareto import Candidate
from search.runs.rundir import RunDir
from search.runs.workbench import Workbench, load_live
from search.scoring.generation import Answer, answer_scores, measure
from synth.probes.jsonl import read_jsonl

_FOLDER = "validation"  # of a run, for the answers


@dataclass(frozen=True, slots=True)
class Answered:
    """Scores by generation and judge, all on the same probes.

    Args:
        base: of the base.
        sources: `{source: scores}`.
        trials: `{trial: scores}`.
    """

    base: Scores
    sources: Mapping[str, Scores]
    trials: Mapping[int, Scores]


def answer(
    home: RunDir, bench: Workbench, trials: Sequence[Candidate], *, max_tokens: int, report: Report
) -> Answered:
    """Let base, sources and trials answer the validation probes, or the search probes without any.

    Args:
        home: where answers are kept, in its folder validation; where another engine gave them, they
            are asked for anew.
        bench: the live engine and the judge.
        trials: what is asked.
        max_tokens: length of a reply.
        report: called for every model.
    """
    forget_others(home, _FOLDER, {"engine": bench.settings.kind})
    scores = []
    models = list(_models(bench, trials))
    for done, (file, make_live) in enumerate(models):
        report("answers", done, len(models), "")
        answers = kept_answers(home, file, partial(_ask, bench, make_live, max_tokens))
        scores.append(answer_scores(answers))
    report("answers", len(models), len(models), "")
    names = [ref.name for ref in bench.inputs.refs[1:]]
    numbers = [trial.number for trial in trials]
    return Answered(
        base=scores[0],
        sources=dict(zip(names, scores[1:], strict=False)),
        trials=dict(zip(numbers, scores[1 + len(names) :], strict=True)),
    )


def _models(
    bench: Workbench, trials: Sequence[Candidate]
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Base, sources and trials: where its answers are kept, and what makes its weights live."""
    yield f"{_FOLDER}/base.jsonl", partial(load_live, bench.live, bench.inputs)
    for index in range(len(bench.inputs.sources)):
        file = f"{_FOLDER}/source-{index}.jsonl"  # a name may be no file name
        yield file, partial(load_live, bench.live, bench.inputs, index)
    for trial in trials:
        file = f"{_FOLDER}/trial-{trial.number:05d}.jsonl"
        yield file, partial(bench.make_live, trial.recipe)


def _ask(bench: Workbench, make_live: Callable[[], None], max_tokens: int) -> list[Answer]:
    make_live()
    probes = bench.search_probes if bench.validation is None else bench.validation.probes
    _, answers = measure(bench.speaker(), probes, bench.judge, max_tokens=max_tokens)
    return answers


def forget_others(home: RunDir, folder: str, asked: Mapping[str, object]) -> None:
    """Remove a folder of answers where something else was asked.

    Args:
        home: the run.
        folder: of the run.
        asked: who answers, and who reads the answers.
    """
    if home.read(f"{folder}/asked.json") != asked:
        if (home.path / folder).exists():
            shutil.rmtree(home.path / folder)
        home.write(f"{folder}/asked.json", asked)


def kept_answers(home: RunDir, file: str, ask: Callable[[], list[Answer]]) -> list[Answer]:
    """The answers in a file of the run; asked for and written, whole, where there is none."""
    if (home.path / file).exists():
        # Not by str.splitlines, which also splits at characters that a reply may hold.
        return [Answer(**row) for _, row in read_jsonl(home.path / file)]
    answers = ask()
    records = (json.dumps(asdict(one), ensure_ascii=False, sort_keys=True) for one in answers)
    home.write_text(file, "".join(f"{record}\n" for record in records))
    return answers
