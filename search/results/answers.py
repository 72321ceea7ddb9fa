"""Generated answers to the validation probes, graded and kept in the run.

A likelihood does not show a model that answers worse than its likelihoods suggest, refuses harmless
questions or degenerates; answers do. They cost a generation each, so only trials near the front
give them, and base and sources, to which limits may be relative. A file of answers is complete or
absent: after a kill no model answers twice.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from safemerge.score import Scores
from search.metrics import Baseline
from search.progress import Report
from search.results.pareto import Candidate
from search.runs.rundir import RunDir
from search.runs.workbench import Workbench
from search.scoring.generation import Answer, answer_scores, score_generations
from synth.probes.jsonl import read_jsonl

_FOLDER = "validation"  # of a run, for the answers


@dataclass(frozen=True, slots=True)
class ValidationScores:
    """Scores by generation and judge, all on the same probes."""

    baseline: Baseline
    trials: Mapping[int, Scores]


def answer(
    home: RunDir, bench: Workbench, trials: Sequence[Candidate], *, max_tokens: int, report: Report
) -> ValidationScores:
    """Let base, sources and trials answer the validation probes, or else the search probes.

    Args:
        home: where answers are kept, in its folder validation.
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
    return ValidationScores(
        Baseline(scores[0], dict(zip(names, scores[1:], strict=False))),
        dict(zip(numbers, scores[1 + len(names) :], strict=True)),
    )


def _models(
    bench: Workbench, trials: Sequence[Candidate]
) -> Iterator[tuple[str, Callable[[], None]]]:
    """(file of the answers, function that makes the weights live) of base, sources and trials."""
    yield f"{_FOLDER}/base.jsonl", bench.load_base
    for index in range(len(bench.inputs.sources)):
        file = f"{_FOLDER}/source-{index}.jsonl"  # a name may be no file name
        yield file, partial(bench.load_source, index)
    for trial in trials:
        file = f"{_FOLDER}/trial-{trial.number:05d}.jsonl"
        yield file, partial(bench.make_live, trial.recipe)


def _ask(bench: Workbench, make_live: Callable[[], None], max_tokens: int) -> list[Answer]:
    make_live()
    probes = bench.search_probes if bench.validation is None else bench.validation.probes
    engine = bench.generation_engine()
    _, answers = score_generations(engine, probes, bench.judge, max_tokens=max_tokens)
    return answers


def forget_others(home: RunDir, folder: str, asked: Mapping[str, object]) -> None:
    """Remove a folder of answers that another engine gave or another judge read."""
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
    records = (json.dumps(asdict(answer), ensure_ascii=False, sort_keys=True) for answer in answers)
    home.write_text(file, "".join(f"{record}\n" for record in records))
    return answers
