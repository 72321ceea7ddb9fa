"""A search with everything around it: baselines in their own runs, then the held-out table."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safemerge.errors import ProbeError
from search.baselines.fitness import Baseline
from search.baselines.registry import check_baselines, parse_baselines, runs_of
from search.config import SearchConfig
from search.progress import Report, prefixed, silent
from search.results.heldout_record import HeldOut
from search.results.heldout_table import measure_run
from search.results.run import Run
from search.runs.workbench import load_probes, open_workbench
from search.study.study import run_search


@dataclass(frozen=True, slots=True)
class Measured:
    """A finished run and its held-out table.

    Args:
        run: the run.
        heldout: its held-out measurement.
        seconds: `{stage: wall seconds}` of this call; a stage found finished takes almost none.
    """

    run: Run
    heldout: HeldOut
    seconds: Mapping[str, float]


def search_and_measure(
    config: SearchConfig, home: Path, *, baselines: Iterable[str] = (), report: Report = silent
) -> Measured:
    """Search, run the baselines, and measure all on held-out probes.

    Args:
        config: the run's configuration.
        home: its directory; baselines live in `home/baselines/`.
        baselines: names of what to run besides, as `search.baselines.registry` lists them.
        report: called at every step.

    Raises:
        BadInput: what is wrong with config, probes or baselines, before any work.
    """
    asked = parse_baselines(baselines)
    probes = load_probes(config)
    check_baselines(asked, config, probes)
    axes, heldout = ({p.axis for p in probes.split(split)} for split in ("search", "heldout"))
    # Said before the search, not after it.
    if not heldout:
        raise ProbeError(
            "there are no held-out probes: set probes.heldout to a file, or probes.heldout_frac "
            "above 0"
        )
    if not axes & heldout:
        raise ProbeError(
            f"the held-out probes are of {', '.join(sorted(heldout))} and the search probes of "
            f"{', '.join(sorted(axes))}: they have no axis in common, so nothing could be compared"
        )
    seconds: dict[str, float] = {}
    runs: dict[str, Run] = {}

    def search(name: str, plan: Baseline) -> None:
        folder = home if name == "search" else home / "baselines" / name
        start = time.monotonic()
        told = prefixed(report, f"{name.replace('_', ' ')}: ")
        runs[name] = run_search(plan.config, folder, first=plan.first, report=told)
        seconds[name] = time.monotonic() - start

    search("search", Baseline(config))
    for row, plan in runs_of(asked, config, runs["search"]):
        search(row, plan)
    start = time.monotonic()
    run = runs.pop("search")
    bench = open_workbench(config)
    with run.dir.locked():
        found = measure_run(run, bench, runs, report=report)
    seconds["held-out"] = time.monotonic() - start
    return Measured(run, found, seconds)
