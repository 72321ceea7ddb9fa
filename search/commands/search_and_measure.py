"""A search with everything around it: baselines in their own runs, then the held-out table."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safemerge.writable import check_writable
from search.baselines.fitness import BaselineRun
from search.baselines.registry import MIXTURE, baseline_runs, check_baselines, parse_baselines
from search.config import SearchConfig
from search.doctor.estimate import Estimate, check_fits, estimate_search
from search.fusion.checks import check_fusion
from search.fusion.measured import ROW, mixture_row
from search.fusion.tuned import tuned_mixture
from search.results.answers import Respondent
from search.results.heldout_record import HeldOut
from search.results.heldout_table import check_heldout, measure_run
from search.results.run import Run
from search.runs.provenance import check_fresh
from search.runs.rundir import RunDir
from search.runs.workbench import Workbenches
from search.study.study import run_search
from synth.grading import unchecked_notes
from synth.progress import Report, prefixed, silent

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """A finished run and its held-out table."""

    run: Run
    heldout: HeldOut
    # `{stage: wall seconds}` of this call; a stage found finished takes almost none
    seconds: Mapping[str, float]


def search_and_measure(
    config: SearchConfig,
    home: Path,
    *,
    baselines: Iterable[str] = (),
    report: Report = silent,
    foretell: Callable[[Estimate], None] | None = None,
) -> MeasuredRun:
    """Search, run the baselines, and measure all on held-out probes.

    Args:
        baselines: names of what to run besides, in `home/baselines/`.
        foretell: told what a search that begins will take, baselines left out, before it does; None
            reckons nothing.

    Raises:
        BadInput: what is wrong with config, probes or baselines, or does not fit on this machine,
            before any work.
    """
    config = config.resolved(Path.cwd())  # so that all searches name the same files alike
    benches = Workbenches()
    requested = parse_baselines(baselines)
    probes = benches.probes(config)
    check_baselines(requested, config, probes)
    if MIXTURE in requested:
        check_fusion(config, probes)
    check_heldout(probes)
    for note in unchecked_notes(probes.probes, graded=config.probes.grader is not None):
        log.warning(note)
    if foretell is not None and not (home / "config.toml").exists():
        check_fresh(home)
        check_writable(home)
        estimate = estimate_search(config, home, benches=benches, report=report)
        foretell(estimate)
        check_fits(estimate, config)
    seconds: dict[str, float] = {}
    runs: dict[str, Run] = {}

    def search(name: str, plan: BaselineRun) -> None:
        folder = home if name == "search" else home / "baselines" / name
        start = time.monotonic()
        prefix = f"{name.replace('_', ' ')}: "
        runs[name] = run_search(
            plan.config, folder, first=plan.first, benches=benches, report=prefixed(report, prefix)
        )
        seconds[name] = time.monotonic() - start

    search("search", BaselineRun(config))
    for row, plan in baseline_runs(requested, config, runs["search"]):
        search(row, plan)
    run, mixtures = runs.pop("search"), list[Respondent]()
    if MIXTURE in requested:
        start = time.monotonic()
        folder = RunDir(home / "baselines" / ROW)
        with folder.locked():
            tuned = tuned_mixture(
                *(config, folder, probes, folder.path / "export"),
                pick=run.pick().recipe,
                report=prefixed(report, f"{ROW}: "),
            )
        mixtures.append(mixture_row(config, tuned))
        seconds[ROW] = time.monotonic() - start
    start = time.monotonic()
    bench = benches.open(config)
    with run.dir.locked():
        heldout = measure_run(run, bench, runs, mixtures, report=report)
    seconds["held-out"] = time.monotonic() - start
    return MeasuredRun(run, heldout, seconds)
