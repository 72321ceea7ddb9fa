"""Write probes with models at every step, after Hammoud et al. 2024 (2406.14563), section 4.

Questions are written by models of the pool, sifted, answered by the pool and kept by a judge. This
file runs the stages, reports, and writes the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import BaseModel

from safemerge.errors import ConfigError, ProbeError, near_names
from synth.engines.base import Engine
from synth.gates.benchmark_texts import read_benchmarks
from synth.gates.language import check_languages
from synth.gates.leaks import LeakReference
from synth.judges.judge import Judge
from synth.judges.review_exam import ReviewExam, examine
from synth.judges.reviewer import Reviewer
from synth.probes.jsonl import write_jsonl
from synth.probes.probe import AXES, Axis, ProbeSet
from synth.probes.stats import rejected_path
from synth.text.normalise import normalise
from synth.writing.benign import benign
from synth.writing.config import ProbeConfig
from synth.writing.context import Progress, Terms, WritingContext
from synth.writing.documents import read_passages
from synth.writing.domain import domain
from synth.writing.harmful import harmful
from synth.writing.junk import junk
from synth.writing.multiple_choice import choice_group, multiple_choices
from synth.writing.outcome import Outcome
from synth.writing.replay import RecordedJudge, RecordedReviewer, WorkFile, recorded
from synth.writing.unknowable import unknowable
from synth.writing.user_questions import own_questions, read_user_questions

_CONTROLS = 32  # domain questions that tell who refuses whatever it is asked

_WRITER: dict[Axis, str] = {
    "domain": "domain",
    "harmless": "harmful",
    "helpful": "twin",
    "honest": "unknowable",
}


class UnwrittenAxis(ProbeError):
    """Nothing is left of an axis; the file of rejects says why of every question."""


class UnreviewedAxis(ProbeError):
    """Nobody can tell whether written questions are what their axis says."""


@dataclass(frozen=True, slots=True)
class WritingInputs:
    """What probes are written with and what they must not repeat."""

    # engines by name; all of them answer, those named in the config write
    pool: Mapping[str, Engine]
    judge: Judge  # labels answers
    reviewer: Reviewer  # says whether a written question is what its axis says
    heldout: ProbeSet | None = None  # nothing that is in it, or close to it, is written again
    # the facts, acts or names on which a question turns. If given, a question without any is
    # dropped, because nobody can tell whether it leaks.
    terms: Terms | None = None


class AxisReport(BaseModel, frozen=True):
    """How an axis came about."""

    axis: Axis  # name
    wanted: int  # probes asked for
    written: int  # questions that a model wrote
    kept: int  # probes in the set; less than wanted if the writer ran dry
    # reason -> number of questions dropped for it; "surplus" are good ones beyond `wanted`. Kept
    # and dropped together are those written.
    reasons: dict[str, int]


class ProbeReport(BaseModel, frozen=True):
    """One row for each axis that was asked for, in the order of `AXES`."""

    rows: tuple[AxisReport, ...]


def make_probes(
    config: ProbeConfig,
    inputs: WritingInputs,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    out: Path | None = None,
) -> tuple[ProbeSet, ProbeReport]:
    """Make a set of probes, all in the split "search".

    Args:
        config: what to write.
        inputs: with what.
        seed: same models, config and seed, same bytes.
        progress: told the axis, the probes so far and the number wanted.
        out: probe file, written whole at the end. What models have said waits in
            `<out>.work.jsonl` until then, and what was rejected lands in `<out>.rejected.jsonl`.

    Returns:
        The probes in the order of `AXES`, and the report.

    Raises:
        ConfigError: if a writer is not in the pool.
        UnreviewedAxis: if nobody can tell whether questions of an axis are what it says; then
            nothing is written at all.
        UnwrittenAxis: if an axis ends with no probe at all; `out` is then not written, but what
            was rejected is, and what models have said waits for another call.
        ProbeError: if a file cannot be read.
        OutputError: if a file cannot be written.
    """
    for role, name in _roles(config).items():
        if name not in inputs.pool:
            raise ConfigError(
                f"{role} is {name!r}, which is not a model of the pool; "
                f"{near_names(name, inputs.pool) if inputs.pool else 'the pool is empty'}"
            )
    work = WorkFile(None if out is None else out.with_name(out.name + ".work.jsonl"))
    check_files(config)
    context = WritingContext(
        config=config,
        pool={name: recorded(engine, work, config.batch) for name, engine in inputs.pool.items()},
        judge=RecordedJudge(inputs.judge, work, config.batch),
        reviewer=RecordedReviewer(inputs.reviewer, work, config.batch),
        heldout=LeakReference(inputs.heldout.probes if inputs.heldout else ()),
        benchmarks=LeakReference(texts=read_benchmarks(config.gates.benchmarks)),
        terms=inputs.terms,
        seed=seed,
        progress=progress or (lambda *_: None),
    )
    outcomes = _run(replace(context, exams=_examined(context)))
    if out is not None:
        rejected = [asdict(rejected) for outcome in outcomes for rejected in outcome.rejected]
        write_jsonl(rejected_path(out), rejected)
    report = _report(config, outcomes)
    _check(config, report, outcomes)
    probes = _put_together(outcomes)
    if out is not None:
        probes.to_jsonl(out)
        work.remove()
    return probes, report


def _examined(context: WritingContext) -> dict[Axis, ReviewExam]:
    """How the reviewer fares on each axis that models write and it reads.

    An UnreviewedAxis names every axis of which it cannot tell, before anything is written.
    """
    config, reviewer = context.config, context.reviewer
    exams: dict[Axis, ReviewExam] = {}
    problems: dict[Axis, str] = {}
    written = [axis for axis in AXES if config.counts.of(axis) and not config.brings(axis)]
    for place, axis in enumerate(written):
        if axis not in reviewer.reads:
            if not reviewer.waives:
                problems[axis] = f"{axis} (it tells harm alone)"
            continue
        context.progress("examination of the reviewer", place, len(written))
        exam = exams[axis] = examine(reviewer, axis)
        if not exam.passed:
            problems[axis] = (
                f"{axis} (it passes {exam.right} of {exam.holding} control questions that are, and "
                f"{exam.wrong} of {exam.failing} that are not)"
            )
    if exams:
        context.progress("examination of the reviewer", len(written), len(written))
    if problems:
        own = " or ".join(config.own_key(axis) for axis in problems)
        none = " and ".join(f"counts.{axis} = 0" for axis in problems)
        raise UnreviewedAxis(
            "the reviewer cannot tell whether a question is what its axis says, on the axes "
            f"{', '.join(problems.values())}; nothing is written: name a larger chat model in "
            f'reviewer, as "rubric=org/chat-model", bring your own questions in {own}, set {none}, '
            'or add "none" to reviewer and read what is kept yourself'
        )
    return exams


def _run(context: WritingContext) -> list[Outcome]:
    """The outcome of every stage that has something to write."""
    config, counts = context.config, context.config.counts
    outcomes: list[Outcome] = []

    def then() -> WritingContext:
        """The context of the next stage, which repeats no prompt of those before it."""
        prompts = (probe.prompt for outcome in outcomes for probe in outcome.probes)
        return replace(context, taken=frozenset(map(normalise, prompts)))

    known = domain(context) if counts.domain else Outcome()
    outcomes.append(known)
    context = replace(context, controls=tuple(known.probes[:_CONTROLS]))
    if counts.harmless:
        outcomes.append(harmful(then()))
    if counts.helpful and "helpful" in config.questions:
        outcomes.append(benign(then(), config.questions["helpful"]))
    unknown = unknowable(then()) if counts.honest else Outcome()
    outcomes.append(unknown)
    if counts.choices:
        outcomes.append(multiple_choices(context, known.probes, unknown.probes))
    return outcomes


def _put_together(outcomes: Sequence[Outcome]) -> ProbeSet:
    """The probes of all stages by axis; one that a multiple choice was made of gets its group."""
    probes = [probe for outcome in outcomes for probe in outcome.probes]
    groups = {probe.group for probe in probes}
    grouped = [
        probe.model_copy(update={"group": choice_group(probe)})
        if choice_group(probe) in groups
        else probe
        for probe in probes
    ]
    return ProbeSet(tuple(probe for axis in AXES for probe in grouped if probe.axis == axis))


def check_files(config: ProbeConfig) -> None:
    """Read every file that a config names, so that a bad one is said before any model is opened."""
    check_languages(config.gates.languages)
    read_benchmarks(config.gates.benchmarks)
    read_passages(config.domain.documents, most_chars=config.domain.passage_chars)
    if config.domain.questions is not None:
        rows = read_user_questions(config.domain.questions)
        if config.domain.grader is None and any(row.check == "judged" for row in rows):
            raise ProbeError(
                f'{config.domain.questions} has questions of the check "judged", and nobody is '
                'named who reads the answers; set verify = "grader" and grader in '
                "[probes.write.domain]"
            )
    for axis, path in config.questions.items():
        own_questions(path, axis)


def _roles(config: ProbeConfig) -> dict[str, str]:
    """Key of the config -> the pool model that it names."""
    roles = {f"writers.{role}": name for role, name in config.writers.model_dump().items()}
    if config.counts.domain and config.domain.grader is not None:
        roles["domain.grader"] = config.domain.grader
    if config.counts.domain and config.domain.asks_how_hard:
        roles["domain.base"] = config.domain.base
    return roles


def _report(config: ProbeConfig, outcomes: Sequence[Outcome]) -> ProbeReport:
    rows = []
    for axis in AXES:
        if not config.counts.of(axis):
            continue
        reasons = Counter(
            r.reason for outcome in outcomes for r in outcome.rejected if r.axis == axis
        )
        rows.append(
            AxisReport(
                axis=axis,
                wanted=config.wanted(axis),
                written=sum(outcome.written.get(axis, 0) for outcome in outcomes),
                kept=sum(len(outcome.of(axis)) for outcome in outcomes),
                reasons=dict(reasons.most_common()),
            )
        )
    return ProbeReport(rows=tuple(rows))


def _check(config: ProbeConfig, report: ProbeReport, outcomes: Sequence[Outcome]) -> None:
    """Refuse, in one go, every axis of which nothing is left."""
    problems = []
    for row in report.rows:
        if row.kept:
            continue
        writer = _WRITER[row.axis]
        who = f"{getattr(config.writers, writer)!r} (writers.{writer})"
        unfit = [outcome for outcome in outcomes if row.axis in outcome.given_up]
        reasons = junk(unfit[0], row.axis) if unfit else Counter(row.reasons)
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        said = (
            f"{who} cannot write {row.axis} questions: of {row.written} hardly any is one ({why})"
            if unfit
            else f"no {row.axis} probe is left of {row.written} questions ({why or 'none written'})"
        )
        own = config.own_key(row.axis)
        problems.append(
            f"{said}; name another model in writers.{writer}, bring a file of your own with {own}, "
            f"or set counts.{row.axis} = 0"
        )
    if problems:
        raise UnwrittenAxis("; and ".join(problems) + "; what models have said is kept")
