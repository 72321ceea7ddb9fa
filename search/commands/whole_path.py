"""Search, baselines, held-out table, checkpoint and summary, for a demo on any ground."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safemerge.recipe import Recipe
from search.baselines.registry import PLAIN
from search.commands.search_and_measure import search_and_measure
from search.config import SearchConfig
from search.metrics import METRICS
from search.results.export import export
from search.results.heldout_record import HeldOut
from search.results.run import Run
from search.results.standing import standing
from search.runs.rundir import RunDir
from synth.probes.probe import AXES
from synth.progress import Report


def run_whole_path(
    config: SearchConfig, home: Path, seconds: Mapping[str, float], report: Report
) -> tuple[dict[str, Any], HeldOut]:
    """Search with the plain baselines, measure, export the pick, write summary.json.

    Args:
        config: of the run, whose probes are written.
        home: the run directory.
        seconds: `{stage: wall seconds}` of what came before.

    Returns:
        The summary as written, and the held-out measurement.
    """
    measured = search_and_measure(config, home, baselines=PLAIN, report=report)
    before_export = time.monotonic()
    out = _export(measured.run, home / "export", report)
    stages = {**seconds, **measured.seconds, "export": time.monotonic() - before_export}
    pick = measured.run.pick().number
    summary = {
        "rows": [
            {
                "name": name,
                # rates of replies
                **{metric: row[metric].value for metric in METRICS if metric in row},
                "n": min(score.n for metric, score in row.items() if metric in AXES),
            }
            for name, row in measured.heldout.rows.items()
        ],
        "seconds": {
            name: round(value, 1)
            for name, value in (stages | {"total": sum(stages.values())}).items()
        },
        "peak_memory_mb": _peak_memory_mb(),
        "pick": pick,
        "pick_limits": standing(measured.run, pick).mark or "within",
        "export": str(out),
    }
    before = RunDir(home).read("summary.json")
    if before is not None and before["rows"] == summary["rows"] and "pick" in before:
        return before, measured.heldout  # nothing is new: the seconds of the work itself stay
    RunDir(home).write("summary.json", summary)
    return summary, measured.heldout


def _peak_memory_mb() -> int:
    """Most resident memory of this process so far, in units of 1e6 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6)


def _export(run: Run, out: Path, report: Report) -> Path:
    """Export the pick; an export of the same recipe is kept, another one is replaced."""
    number = run.pick().number
    marker = out / "recipe.json"
    if marker.exists():
        known = run.dir.require("lock.json", dict)["inputs"]
        there, wanted = Recipe.load(marker), run.dir.trial_recipe(number)
        if all(model.content == known[model.name] for model in (there.base, *there.sources)) and (
            there.hash(known) == wanted.hash(known)
        ):
            return out
        shutil.rmtree(out)
    export(run, number, out, report)
    return out
