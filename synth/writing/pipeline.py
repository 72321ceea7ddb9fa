"""Write probes with models at every step, after Hammoud et al. 2024 (2406.14563), section 4.

Questions are written by models of the pool, sifted, answered by the pool and kept by a judge. This
file runs the stages, reports, and writes the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import BaseModel

from safemerge.errors import ConfigError, ProbeError, near_names
from synth.engines.base import Engine
from synth.gates.benchmark_texts import read_benchmarks
from synth.gates.language import check_languages
from synth.gates.leaks import LeakReference
from synth.judges.judge import Judge
from synth.probes.jsonl import write_jsonl
from synth.probes.probe import AXES, Axis, ProbeSet
from synth.probes.stats import rejected_path
from synth.writing.config import ProbeConfig
from synth.writing.context import Outcome, Progress, Terms, WritingContext
from synth.writing.documents import read_passages
from synth.writing.domain import domain
from synth.writing.harmful import harmful
from synth.writing.multiple_choice import choice_group, multiple_choices
from synth.writing.replay import RecordedJudge, WorkFile, recorded
from synth.writing.unknowable import unknowable
from synth.writing.user_questions import read_user_questions


@dataclass(frozen=True, slots=True)
class WritingInputs:
    """What probes are written with and what they must not repeat."""

    # engines by name; all of them answer, those named in the config write
    pool: Mapping[str, Engine]
    judge: Judge  # labels answers
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
        ProbeError: if an axis ends with no probe at all; `out` is then not written. Also if a
            benchmark file cannot be read.
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
        heldout=LeakReference(inputs.heldout.probes if inputs.heldout else ()),
        benchmarks=LeakReference(texts=read_benchmarks(config.gates.benchmarks)),
        terms=inputs.terms,
        seed=seed,
        progress=progress or (lambda *_: None),
    )
    outcomes = _run(context)
    report = _report(config, outcomes)
    _check(report)
    probes = _put_together(outcomes)
    if out is not None:
        rejected = [asdict(rejected) for outcome in outcomes for rejected in outcome.rejected]
        write_jsonl(rejected_path(out), rejected)
        probes.to_jsonl(out)
        work.remove()
    return probes, report


def _run(context: WritingContext) -> list[Outcome]:
    """The outcome of every stage that has something to write."""
    counts = context.config.counts
    known = domain(context) if counts.domain else Outcome()
    refused = harmful(context) if counts.harmless else Outcome()
    unknown = unknowable(context) if counts.honest else Outcome()
    outcomes = [known, refused, unknown]
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


def _check(report: ProbeReport) -> None:
    for row in report.rows:
        if not row.kept:
            why = ", ".join(f"{count} {reason}" for reason, count in row.reasons.items())
            raise ProbeError(
                f"no {row.axis} probe is left of {row.written} questions ({why or 'none written'});"
                " choose another writer, judge or taxonomy"
            )
