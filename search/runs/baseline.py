"""baseline.json: scores of base and sources on a run's search probes, measured once and kept."""

from __future__ import annotations

from search.metrics import Baseline
from search.runs.rundir import RunDir

BASELINE = "baseline.json"


def require_baseline(home: RunDir) -> Baseline:
    """The baseline of a run; where there is none, a RunError with the command that measures it."""
    baseline = home.load(BASELINE, Baseline)
    if baseline is None:
        raise home.missing(BASELINE, "safemerge search CONFIG")
    return baseline
