"""run_search: prepare, warm start, trials in this process or several, front; resumable throughout.

What a trial is, and what a kill leaves of one, is in `trials.py`.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from safemerge.recipe import Recipe
from search.config import SearchConfig
from search.descent import LINEARISATIONS
from search.interrupts import uninterrupted
from search.objectives import probe_axes
from search.picking import record_front
from search.progress import Report, silent
from search.provenance import check_resumable, measure_baseline, record_start
from search.run import Run
from search.rundir import RunDir
from search.samplers import check_sampler
from search.setup import Workbench, open_workbench
from search.stopping import reason_to_stop
from search.storage import check_storage, open_study, quiet_optuna
from search.trials import recover, run_trials
from search.warmstart import STEP_COST, warm_start
from search.workers import run_workers

if TYPE_CHECKING:
    import optuna


def run_search(
    config: SearchConfig,
    run_dir: str | Path,
    *,
    first: Callable[[Workbench], Sequence[Recipe]] | None = None,
    report: Report = silent,
) -> Run:
    """Search, or go on with a search, until its trials are complete or a stop rule says so.

    Args:
        config: the run's configuration; on resuming only the trial budget, the stop rules, the
            failure share, the workers and the device may differ from the recorded ones.
        run_dir: where the run lives; made if missing.
        first: given the open workbench, the recipes that are tried before the sampler draws any.
        report: called at every step of the stages prepare, warm start, trials and answers.

    Returns:
        The run, with front and pick recorded.

    Raises:
        RunError: another process holds the run, or its config or inputs differ.
        BadInput: what is wrong with models, probes or config.
    """
    home = RunDir(run_dir)
    check_resumable(home, config)
    with quiet_optuna():
        check_sampler(config)
    check_storage(config)
    report("prepare", 0, 1, "")
    bench = open_workbench(config)
    base, sources = measure_baseline(home, config, bench)
    report("prepare", 1, 1, "")
    with home.locked():
        record_start(home, config, bench, base, sources)
        with uninterrupted():
            study = open_study(home, config)
            recover(home, study, config)
        _enqueue_prior(study, bench)
        if first is not None and reason_to_stop(study, config) is None:
            _enqueue_first(study, bench, first(bench))
        _enqueue_warm_start(home, study, config, bench, report)
        start = len(study.get_trials(deepcopy=False))
        if config.search.workers == 1:
            stopped = _run_alone(home, study, config, bench, report, start)
        else:
            del bench  # every worker opens its own, and may need this one's memory
            gc.collect()
            torch.cuda.empty_cache()
            with quiet_optuna():
                stopped = run_workers(home, study, config, report, first=start)
            bench = open_workbench(config)
        run = Run.load(home.path)
        record_front(run, bench, stopped, report)
    return Run.load(home.path)


def _run_alone(
    home: RunDir,
    study: optuna.Study,
    config: SearchConfig,
    bench: Workbench,
    report: Report,
    first: int,
) -> str:
    try:
        with quiet_optuna():
            return run_trials(home, study, config, bench, report, first=first)
    except KeyboardInterrupt:
        with uninterrupted():
            recover(home, study, config, stopped=True)
        raise


def _enqueue_prior(study: optuna.Study, bench: Workbench) -> None:
    """Where the config says where to begin, that is a trial; it goes in once."""
    if bench.space.ranges.prior:
        with uninterrupted(), quiet_optuna():
            point = bench.space.coordinates(bench.space.beginning())
            study.enqueue_trial(point, skip_if_exists=True)


def _enqueue_first(study: optuna.Study, bench: Workbench, recipes: Sequence[Recipe]) -> None:
    """Enqueue the recipes that are neither finished nor waiting; one that failed is tried again."""
    from optuna.trial import TrialState

    with uninterrupted(), quiet_optuna():
        for recipe in recipes:
            point = bench.space.coordinates(recipe)
            states = (TrialState.COMPLETE, TrialState.WAITING)
            known = study.get_trials(deepcopy=False, states=states)
            if not any(trial.system_attrs.get("fixed_params") == point for trial in known):
                study.enqueue_trial(point)


def _enqueue_warm_start(
    home: RunDir,
    study: optuna.Study,
    config: SearchConfig,
    bench: Workbench,
    report: Report,
) -> None:
    if config.search.warm_start.steps == 0 or study.user_attrs.get("warm_started"):
        return
    record = home.read("warmstart.json")
    if record is None:
        begin = bench.space.beginning()
        recipes, steps = warm_start(
            bench.engine,
            bench.resident(begin),
            bench.space,
            begin,
            bench.search_probes,
            bench.probes.split("validation").probes,
            objectives=config.objective_axes,
            limited=probe_axes(config.limits),
            config=config.search.warm_start,
            whole=config.probes.likelihood == "answer",
            seed=config.seed,
            home=home,
            progress=lambda done, total: report("warm start", done, total, ""),
        )
        record = {
            "evaluations": STEP_COST * steps,
            "points": [bench.space.coordinates(recipe) for recipe in recipes],
        }
        home.write("warmstart.json", record)
        # The points are written: a folder that cannot be removed is in nobody's way.
        shutil.rmtree(home.path / LINEARISATIONS, ignore_errors=True)
    with uninterrupted(), quiet_optuna():
        for point in record["points"]:
            study.enqueue_trial(point, skip_if_exists=True)
        study.set_user_attr("warm_started", True)
