"""Generated answers to the validation probes, graded and kept in the run.

Base and sources give them at the start, some trials while the search runs, and those near the front
before the pick. A file of answers is complete or absent, so after a kill no model answers twice.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from safemerge.score import Scores
from search.metrics import ReferenceScores
from search.results.pareto import Candidate
from search.runs.rundir import RunDir
from search.runs.workbench import Workbench
from search.scoring.generation import Answer, answer_scores, answer_values, score_generations
from synth.engines.transformers import TransformersEngine
from synth.probes.jsonl import read_jsonl
from synth.probes.probe import Probe
from synth.progress import Report

FOLDER = "validation"  # of a run, for the answers
TRIAL_FILES = f"{FOLDER}/trial-{{:05d}}.jsonl"  # of a run


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
    # of a model that is no merge of the base's architecture; it replies in the live model's place
    engine: Callable[[], TransformersEngine] | None = None

    def bench(self, bench: Workbench) -> Workbench:
        """The workbench that replies for this model."""
        return bench if self.engine is None else bench.serving(self.engine())


def base_and_sources(bench: Workbench) -> Iterator[Respondent]:
    yield Respondent("base", "base.jsonl", bench.load_model)
    for index, ref in enumerate(bench.inputs.refs[1:]):
        file = f"source-{index}.jsonl"  # a name may be no file name
        yield Respondent(ref.name, file, partial(bench.load_model, index))


def respondent(bench: Workbench, trial: Candidate) -> Respondent:
    name, file = f"trial {trial.number}", f"trial-{trial.number:05d}.jsonl"
    return Respondent(name, file, partial(bench.make_live, trial.recipe), trial)


def reference_files(sources: Sequence[str]) -> dict[str, str]:
    """`{model: file of the run}` of base and sources, given the names of these in order."""
    files = {name: f"{FOLDER}/source-{index}.jsonl" for index, name in enumerate(sources)}
    return {"base": f"{FOLDER}/base.jsonl", **files}


def trial_of(file: Path) -> int:
    """The number of the trial whose answers a file holds."""
    return int(file.stem.removeprefix("trial-"))


def ask_references(
    home: RunDir, bench: Workbench, max_tokens: int, report: Report
) -> dict[str, list[Answer]]:
    """`{file of the run: answers}` of base and sources; nothing is written.

    Those that the run has, or that an earlier search of the same models has asked for, stay.
    """
    asked = home.read(f"{FOLDER}/asked.json") == _asked(bench)
    probes = tuple(probe.id for probe in _probes(bench))
    models = list(base_and_sources(bench))
    found = {}
    for done, (model, ref) in enumerate(zip(models, bench.inputs.refs, strict=True)):
        report("answers of the sources", done, len(models), "")
        file, key = f"{FOLDER}/{model.file}", (ref.path, probes)
        kept = read_answers(home, file) if asked else None
        answers = kept or bench.retained.replies.get(key)
        if answers is None:
            model.make_live()
            answers = ask_live(bench, max_tokens)
        found[file] = bench.retained.replies[key] = answers
    report("answers of the sources", len(models), len(models), "")
    return found


def write_references(
    home: RunDir, bench: Workbench, answers: Mapping[str, Sequence[Answer]]
) -> None:
    """Keep what `ask_references` gave."""
    if answers:
        forget_others(home, FOLDER, _asked(bench))
    for file, some in answers.items():
        if not (home.path / file).exists():
            write_answers(home, file, some)


def ask_live(bench: Workbench, max_tokens: int) -> list[Answer]:
    """The live model's answers to the validation probes, or else the search probes."""
    return score_generations(
        bench.generation_engine(),
        _probes(bench),
        bench.judge,
        max_tokens=max_tokens,
        grader=bench.grader,
    )[1]


def answer(
    home: RunDir, bench: Workbench, trials: Sequence[Candidate], *, max_tokens: int, report: Report
) -> ValidationScores:
    """Let base, sources and trials answer the validation probes, or else the search probes."""
    forget_others(home, FOLDER, _asked(bench))

    def ask(model: Respondent) -> list[Answer]:
        model.make_live()
        return ask_live(bench, max_tokens)

    references = list(base_and_sources(bench))
    models = [*references, *(respondent(bench, trial) for trial in trials)]
    said: dict[str, list[Answer]] = {}
    for done, model in enumerate(models):
        report("answers", done, len(models), model.name)
        said[model.file] = kept_answers(home, f"{FOLDER}/{model.file}", partial(ask, model))
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
    kept = read_answers(home, file)
    if kept is None:
        kept = ask()
        write_answers(home, file, kept)
    return kept


def read_answers(home: RunDir, file: str) -> list[Answer] | None:
    """The answers in a file of the run; None without it."""
    if not (home.path / file).exists():
        return None
    # Not by str.splitlines, which also splits at characters that a reply may hold.
    return [Answer(**row) for _, row in read_jsonl(home.path / file)]


def write_answers(home: RunDir, file: str, answers: Sequence[Answer]) -> None:
    """Write answers, whole."""
    records = (json.dumps(asdict(answer), ensure_ascii=False, sort_keys=True) for answer in answers)
    home.write_text(file, "".join(f"{record}\n" for record in records))


def _asked(bench: Workbench) -> dict[str, object]:
    return {"engine": bench.settings.kind, **bench.grading}


def _probes(bench: Workbench) -> Sequence[Probe]:
    return (bench.validation or bench.evaluator).probes
