"""Every metric is an objective alone, or a limit beside another, with a warm start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safemerge.errors import ConfigError
from search.config import SearchConfig
from search.metrics import LOWER_IS_BETTER, METRICS, RETENTION
from search.results.run import Run
from search.study.study import run_search
from synth.probes.probe import ProbeSet

OBJECTIVES = [metric for metric in METRICS if metric not in RETENTION]
LIMITABLE = [metric for metric in METRICS if metric != "fitness"]


def searched(record: dict[str, Any], home: Path, **sections: Any) -> Run:
    """A search for these objectives and limits, with the default warm start or another one."""
    record |= {"space": {"places": "global"}, "limits": {}, "search": {"trials": 3}} | sections
    return run_search(SearchConfig.from_record(record), home)


def ask_for(metric: str) -> dict[str, Any]:
    weights = {"weights": {"harmless": 1.0, "domain": 0.3}}
    return {metric: weights if metric == "fitness" else {}}


@pytest.mark.parametrize("metric", OBJECTIVES)
def test_a_metric_alone_is_searched_for_and_a_trial_is_picked_by_it(
    metric: str, record: dict[str, Any], tmp_path: Path
) -> None:
    """With the default warm start."""
    run = searched(record, tmp_path / "run", objectives=ask_for(metric))
    assert len(run.candidates) == 3
    assert run.pick().number in {candidate.number for candidate in run.candidates}
    values = [candidate.scores[metric].value for candidate in run.candidates]
    (best,) = run.front().points
    assert best.scores[metric].value == (min(values) if metric in LOWER_IS_BETTER else max(values))
    assert all(candidate.scores[metric].stderr > 0.0 for candidate in run.candidates)


@pytest.mark.parametrize("metric", LIMITABLE)
def test_a_metric_is_a_limit_of_a_search_for_degenerate_alone(
    metric: str, record: dict[str, Any], tmp_path: Path
) -> None:
    objective = "degenerate" if metric != "degenerate" else "over_refusal"
    side = "at_most" if metric in LOWER_IS_BETTER else "at_least"
    run = searched(
        record,
        tmp_path / "run",
        objectives={objective: {}},
        limits={metric: {side: "base + 0.0" if side == "at_most" else "base - 0.0"}},
        search={"trials": 2, "warm_start": {"steps": 2}},
    )
    assert run.pick().number in {candidate.number for candidate in run.candidates}


def test_what_has_no_probes_is_refused_with_the_metric_and_the_way_out(
    record: dict[str, Any], probe_file: Path, tmp_path: Path
) -> None:
    few = [p for p in ProbeSet.from_jsonl(probe_file) if p.axis in ("domain", "helpful")]
    ProbeSet(tuple(few)).to_jsonl(tmp_path / "few.jsonl")
    record["probes"]["path"] = str(tmp_path / "few.jsonl")
    for metric in ("harmless", "honest", "over_refusal", "fitness"):
        with pytest.raises(ConfigError, match=f"objectives.{metric} cannot be measured: .* write"):
            searched(record, tmp_path / "run", objectives=ask_for(metric))
    assert not (tmp_path / "run").exists()
