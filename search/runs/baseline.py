"""baseline.json: scores of base and sources on a run's search probes, measured once and kept."""

from __future__ import annotations

from search.metrics import Baseline
from search.runs.rundir import RunDir

_FILE = "baseline.json"


def load_baseline(home: RunDir) -> Baseline | None:
    """The baseline of a run; None where it is not measured yet."""
    return home.load(_FILE, Baseline)


def require_baseline(home: RunDir) -> Baseline:
    """The baseline of a run.

    Raises:
        RunError: where the run has none yet, saying which command measures it.
    """
    baseline = load_baseline(home)
    if baseline is None:
        raise home.missing(_FILE, "safemerge search CONFIG")
    return baseline


def write_baseline(home: RunDir, baseline: Baseline) -> None:
    """Keep it with the run."""
    home.write(_FILE, baseline)
