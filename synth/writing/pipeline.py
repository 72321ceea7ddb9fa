"""Make probes with models at every step: paper B's two-step recipe (2406.14563, section 4).

Questions are written by models of the pool, sifted (duplicates, leaks against a held-out set,
length), answered by the pool and kept by a judge. `harmful.py`, `domain.py` and `unknowable.py`
hold the recipe itself; this file runs the stages, reports, and writes the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from safemerge.errors import ConfigError, ProbeError, near_names
from synth.engines.base import Engine
from synth.gates.benchmarks import read_benchmarks
from synth.gates.language import check_languages
from synth.judges.verdict import Judge
from synth.probes.jsonl import write_jsonl
from synth.probes.probe import AXES, Axis, ProbeSet
from synth.probes.stats import rejected_path
from synth.writing.config import Counts, ProbeConfig, Writers
from synth.writing.context import Outcome, Progress, Workshop
from synth.writing.documents import read_passages
from synth.writing.domain import domain
from synth.writing.harmful import safety
from synth.writing.multiple_choice import choices
from synth.writing.replay import RecordedEngine, RecordedJudge
from synth.writing.unknowable import honest
from synth.writing.user_questions import read_given
from synth.writing.workfile import WorkFile


class AxisReport(BaseModel):
    """How an axis came about.

    Args:
        axis: name.
        wanted: probes asked for.
        written: questions that a model wrote.
        kept: probes in the set; less than wanted if the writer ran dry.
        reasons: reason -> number of questions dropped for it; "surplus" are good ones beyond
            `wanted`. Kept and dropped together are those written.
    """

    model_config = ConfigDict(frozen=True)

    axis: Axis
    wanted: int
    written: int
    kept: int
    reasons: dict[str, int]

    @property
    def duplicates(self) -> int:
        """Questions asked before, in the same words or nearly."""
        return self.reasons.get("duplicate", 0) + self.reasons.get("near-duplicate", 0)

    @property
    def leaks(self) -> int:
        """Questions too close to the held-out set or to a benchmark."""
        return sum(
            count
            for reason, count in self.reasons.items()
            if reason.startswith(("leak: ", "benchmark: "))
        )

    @property
    def surplus(self) -> int:
        """Good questions that were not needed."""
        return self.reasons.get("surplus", 0)

    @property
    def rejected(self) -> int:
        """Questions dropped for any other reason."""
        return sum(self.reasons.values()) - self.duplicates - self.leaks - self.surplus


class ProbeReport(BaseModel):
    """One row for each axis that was asked for, in the order of `AXES`."""

    model_config = ConfigDict(frozen=True)

    rows: tuple[AxisReport, ...]


def make_probes(
    config: ProbeConfig,
    pool: Mapping[str, Engine],
    judge: Judge,
    *,
    heldout: ProbeSet | None = None,
    terms: Callable[[str], tuple[str, ...]] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    out: Path | None = None,
) -> tuple[ProbeSet, ProbeReport]:
    """Make a set of probes, all in the split "search".

    Args:
        config: counts, writers, taxonomy and thresholds.
        pool: engines by name; all of them answer, those named in the config write.
        judge: labels answers.
        heldout: nothing that is in it, or close to it, is written again.
        terms: the facts, acts or names on which a question turns. If given, a question without
            any is dropped, because nobody can tell whether it leaks.
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
        if name not in pool:
            raise ConfigError(
                f"{role} is {name!r}, which is not a model of the pool; "
                f"{near_names(name, pool) if pool else 'the pool is empty'}"
            )
    work = WorkFile(None if out is None else out.with_name(out.name + ".work.jsonl"))
    check_files(config)
    shop = Workshop(
        config=config,
        pool={name: RecordedEngine(model, work, config.batch) for name, model in pool.items()},
        judge=RecordedJudge(judge, work, config.batch),
        heldout=heldout.probes if heldout else (),
        benchmarks=read_benchmarks(config.gates.benchmarks),
        terms=terms,
        seed=seed,
        progress=progress or (lambda *_: None),
    )
    counts = config.counts
    known = domain(shop) if counts.domain else Outcome()
    harm = safety(shop) if counts.harmless else Outcome()
    unknowable = honest(shop) if counts.honest else Outcome()
    picked = choices(shop, known, unknowable) if counts.choices else Outcome()
    done = [known, harm, unknowable, picked]
    report = _report(config, done)
    _check(report)
    probes = ProbeSet(
        tuple(p for axis in AXES for outcome in done for p in outcome.probes if p.axis == axis)
    )
    if out is not None:
        rejected = [
            {"axis": r.axis, "category": r.category, "prompt": r.prompt, "reason": r.reason}
            for outcome in done
            for r in outcome.rejected
        ]
        write_jsonl(rejected_path(out), rejected)
        probes.to_jsonl(out)
        work.remove()
    return probes, report


def check_files(config: ProbeConfig) -> None:
    """Read every file that a config names, so that a bad one is said before any model is opened.

    Raises:
        ProbeError: if a benchmark, a document or a file of questions cannot be used.
        ConfigError: if a language is not known.
    """
    check_languages(config.gates.languages)
    read_benchmarks(config.gates.benchmarks)
    read_passages(config.domain.documents, most_chars=config.domain.passage_chars)
    if config.domain.questions is not None:
        read_given(config.domain.questions)


def _roles(config: ProbeConfig) -> dict[str, str]:
    """Key of the config -> the pool model that it names."""
    roles = {f"writers.{role}": name for role, name in config.writers.model_dump().items()}
    if config.counts.domain and config.domain.grader is not None:
        roles["domain.grader"] = config.domain.grader
    if config.counts.domain and config.domain.asks_how_hard:
        roles["domain.base"] = config.domain.base
    return roles


def _report(config: ProbeConfig, done: list[Outcome]) -> ProbeReport:
    rows = []
    for axis in AXES:
        if not config.counts.of(axis):
            continue
        reasons = Counter(r.reason for outcome in done for r in outcome.rejected if r.axis == axis)
        rows.append(
            AxisReport(
                axis=axis,
                wanted=config.wanted(axis),
                written=sum(outcome.written.get(axis, 0) for outcome in done),
                kept=sum(outcome.count(axis) for outcome in done),
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


__all__ = [
    "AxisReport",
    "Counts",
    "ProbeConfig",
    "ProbeReport",
    "Writers",
    "check_files",
    "make_probes",
]
