"""Generated answers to the validation probes, graded and kept in the run.

Only trials near the front give them, and base and sources, to which limits may be relative. A file
of answers is complete or absent, so after a kill no model answers twice.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

from safemerge.score import Scores
from search.metrics import ReferenceScores
from search.results.pareto import Candidate
from search.runs.rundir import RunDir
from search.runs.workbench import Workbench
from search.scoring.generation import Answer, answer_scores, answer_values, score_generations
from synth.probes.jsonl import read_jsonl
from synth.progress import Report

_FOLDER = "validation"  # of a run, for the answers


@dataclass(frozen=True, slots=True)
class ValidationScores:
    """Scores by generation and judge, all on the same probes."""

    baseline: ReferenceScores
    trials: Mapping[int, Scores]
    # `{trial: {metric: values}}` of the same, in the order of the probes
    values: Mapping[int, Mapping[str, list[float]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Respondent:
    """A model that answers probes."""

    name: str  # of its row in a table
    file: str  # of its answers, in their folder of the run
    make_live: Callable[[], None]  # writes its weights into the live model
    point: Candidate | None = None  # the trial; None is another model


def base_and_sources(bench: Workbench) -> Iterator[Respondent]:
    yield Respondent("base", "base.jsonl", bench.load_model)
    for index, ref in enumerate(bench.inputs.refs[1:]):
        file = f"source-{index}.jsonl"  # a name may be no file name
        yield Respondent(ref.name, file, partial(bench.load_model, index))


def respondent(bench: Workbench, trial: Candidate) -> Respondent:
    name, file = f"trial {trial.number}", f"trial-{trial.number:05d}.jsonl"
    return Respondent(name, file, partial(bench.make_live, trial.recipe), trial)


def answer(
    home: RunDir, bench: Workbench, trials: Sequence[Candidate], *, max_tokens: int, report: Report
) -> ValidationScores:
    """Let base, sources and trials answer the validation probes, or else the search probes."""
    forget_others(home, _FOLDER, {"engine": bench.settings.kind, **bench.grading})
    probes = (bench.validation or bench.evaluator).probes

    def ask(model: Respondent) -> list[Answer]:
        model.make_live()
        engine = bench.generation_engine()
        return score_generations(
            engine, probes, bench.judge, max_tokens=max_tokens, grader=bench.grader
        )[1]

    references = list(base_and_sources(bench))
    models = [*references, *(respondent(bench, trial) for trial in trials)]
    said: dict[str, list[Answer]] = {}
    for done, model in enumerate(models):
        report("answers", done, len(models), model.name)
        said[model.file] = kept_answers(home, f"{_FOLDER}/{model.file}", partial(ask, model))
    report("answers", len(models), len(models), "")
    scores = {file: answer_scores(answers) for file, answers in said.items()}
    base, *sources = references
    return ValidationScores(
        ReferenceScores(
            scores[base.file], {source.name: scores[source.file] for source in sources}
        ),
        {m.point.number: scores[m.file] for m in models if m.point is not None},
        {m.point.number: answer_values(said[m.file]) for m in models if m.point is not None},
    )


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
