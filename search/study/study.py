"""run_search: prepare, warm start, trials in one process or several, front; resumable."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from optuna.trial import TrialState

from safemerge.recipe import Recipe
from safemerge.writable import check_writable
from search.config import SearchConfig
from search.results.answers import ask_references, write_references
from search.results.damage import source_damage
from search.results.rates import CALIBRATED, as_answered
from search.results.run import Run
from search.results.selection import record_front
from search.runs.provenance import (
    check_fresh,
    check_limits,
    check_same,
    measure_baseline,
    record_start,
)
from search.runs.retention import ask_at_start
from search.runs.rundir import BASELINE, RunDir
from search.runs.start import START, Start
from search.runs.workbench import Workbench, Workbenches
from search.samplers.choose import check_sampler
from search.samplers.quiet_optuna import quiet_optuna
from search.scoring.generation import answer_scores
from search.study.context import StudyContext
from search.study.interrupts import uninterrupted
from search.study.journal import mend_journal
from search.study.queue import enqueue_first
from search.study.recovery import recover
from search.study.stopping import reason_to_stop
from search.study.storage import check_no_copy, check_storage, open_study
from search.study.transfer import run_to_start_from, start_of
from search.study.trials import run_trials
from search.study.workers import run_workers
from synth.progress import Report, silent

log = logging.getLogger(__name__)


def run_search(
    config: SearchConfig,
    run_dir: str | Path,
    *,
    first: Callable[[Workbench], Sequence[Recipe]] | None = None,
    benches: Workbenches | None = None,
    report: Report = silent,
) -> Run:
    """Search, or go on with a search, until its trials are complete or a stop rule says so.

    Args:
        config: with paths that are absolute or from here; on resuming only what
            `provenance.MAY_CHANGE` names may differ.
        first: given the open workbench, the recipes that are tried before the sampler draws any.
        benches: opens the workbench, and is closed while several workers run.

    Returns:
        The run, with front and pick recorded.

    Raises:
        RunError: another process holds the run, its config or inputs differ, or the run to start
            from cannot be used.
        BadInput: what is wrong with models, probes or config.
    """
    home = RunDir(run_dir)
    config = config.resolved(Path.cwd())
    benches = Workbenches() if benches is None else benches
    check_fresh(home.path)
    check_writable(home.path)
    home.check_free()
    check_same(home, config)
    with quiet_optuna():
        check_sampler(config.search, config.directions)
    check_storage(config.search.storage)
    other = run_to_start_from(home, config.search.start_from)
    report("prepare models and merge", 0, 1, "")
    bench = benches.open(config)
    report("prepare models and merge", 1, 1, "")
    start = home.load(START, Start) if other is None else start_of(other, config.search, bench)
    told = bool(bench.retained.answers)  # by an earlier search of these models
    general = ask_at_start(home, bench, config.probes.max_tokens, report)
    tokens = config.probes.max_tokens
    answers = ask_references(home, bench, tokens, report) if config.calibrates else {}
    new = home.read(BASELINE) is None
    baseline = measure_baseline(home, bench, general, report)
    if new:
        said = (answer_scores(some) for some in answers.values())
        replies = dict(zip(("base", *baseline.sources), said, strict=False))
        check_limits(config, as_answered(baseline, replies, dict.fromkeys(CALIBRATED)))
    for text in [] if told else source_damage(config, baseline):
        log.warning(text)
    with home.locked():
        check_same(home, config)  # again: another process may have begun the run meanwhile
        report("hash the models", 0, 1, "")
        record_start(home, config, bench, baseline, general)
        write_references(home, bench, answers)
        report("hash the models", 1, 1, "")
        mend_journal(home.journal)
        with uninterrupted():
            study = open_study(home, config)
            check_no_copy(home, config.search.storage, study)
            context = StudyContext.of(home, study, config, baseline)
        recover(context)
        stopped = reason_to_stop(context)
        if start is not None:
            home.write(START, start)
        enqueue_first(context, config, bench, start, first if stopped is None else None, report)
        first_trial = _first_open(context)
        if config.search.workers == 1:
            stopped = _run_alone(context, bench, report, first_trial)
        else:
            del bench  # every worker opens its own, and may need this one's memory
            benches.close()
            gc.collect()
            torch.cuda.empty_cache()
            with quiet_optuna():
                stopped = run_workers(context, config.engine.device, report, first=first_trial)
            report("prepare models and merge again", 0, 1, "")
            bench = benches.open(config)
            report("prepare models and merge again", 1, 1, "")
            ask_at_start(home, bench, config.probes.max_tokens, report)
        # A stop rule may end them early; they are over all the same.
        done = len(context.complete())
        report("trials", done, done, "")
        record_front(Run.load(home.path), bench, stopped, report)
    return Run.load(home.path)


def _run_alone(context: StudyContext, bench: Workbench, report: Report, first: int) -> str:
    try:
        with quiet_optuna():
            return run_trials(context, bench, report, first=first)
    except KeyboardInterrupt:
        with uninterrupted():
            recover(context, stopped=True)
        raise


def _first_open(context: StudyContext) -> int:
    """Number of the first trial that is still to run: those that wait were enqueued before it."""
    waiting = (trial.number for trial in context.trials(TrialState.WAITING))
    return min(waiting, default=len(context.trials()))
