"""What a run fell short of is told in words: runs written by hand, so that each answer is known."""

from pathlib import Path

import pytest

from safemerge.score import Score
from search.config import SearchConfig
from search.metrics import Limits, ReferenceScores
from search.results.diagnostics import failed, nothing_within
from search.results.pareto import Candidate
from search.results.run import Run
from search.runs.rundir import RunDir

CONFIG = SearchConfig.from_record(
    {
        "schema": 1,
        "models": {"base": "base", "sources": [{"name": "a", "path": "a"}]},
        "probes": {"path": "probes.jsonl"},
        "limits": {"honest": {"at_least": "base - 0.1"}, "over_refusal": {"at_most": 0.25}},
    }
)


def scores(honest: float, over_refusal: float) -> dict[str, Score]:
    values = {"domain": 0.5, "harmless": 0.5, "honest": honest, "over_refusal": over_refusal}
    return {metric: Score(value, 0.0, 8) for metric, value in values.items()}


def run_of(home: Path, *trials: tuple[float, float]) -> Run:
    """A run whose base has honest 0.9 and whose trials have these (honest, over_refusal)."""
    baseline = ReferenceScores(scores(0.9, 0.0), {})
    limits = Limits(CONFIG.limits, baseline)
    candidates = []
    for number, values in enumerate(trials):
        own = scores(*values)
        candidates.append(Candidate(number, None, own, limits.total(own)))  # type: ignore[arg-type]
    return Run(RunDir(home), CONFIG, baseline, tuple(candidates))


def test_a_limit_that_no_trial_meets_is_named_with_the_best_there_is(tmp_path: Path) -> None:
    told = nothing_within(run_of(tmp_path, (0.5, 0.0), (0.75, 0.5), (0.625, 0.0)))
    assert str(told).splitlines() == [
        "none of 3 trials is within all limits; the nearest is trial 2:",
        '  honest 0.625, limit at_least = "base - 0.1" (0.800): outside by 0.175; the best of all '
        "trials is 0.750",
        "No trial is within the limit on honest even alone: loosen that first, and start a new run "
        "with --run NAME, or go on with more --trials.",
    ]


def test_limits_that_are_met_one_at_a_time_are_told_apart_from_that(tmp_path: Path) -> None:
    told = nothing_within(run_of(tmp_path, (0.9, 0.5), (0.5, 0.0)))
    assert str(told).splitlines() == [
        "none of 2 trials is within all limits; the nearest is trial 0:",
        "  over_refusal 0.500, limit at_most = 0.25: outside by 0.250",
        "Each limit is met by some trial, never all at once: loosen what matters least, and start "
        "a new run with --run NAME, or go on with more --trials.",
    ]


@pytest.mark.parametrize("trials", [[], [(0.5, 0.0), (0.8, 0.25)]])
def test_nothing_is_told_before_a_trial_or_with_one_within_the_limits(
    tmp_path: Path, trials: list[tuple[float, float]]
) -> None:
    assert nothing_within(run_of(tmp_path, *trials)) is None


def test_the_commonest_reasons_of_failures_are_counted(tmp_path: Path) -> None:
    run = run_of(tmp_path, (0.9, 0.0), (0.9, 0.0))
    assert failed(run) is None
    for number, reason in enumerate("abbcdea", start=2):
        run.dir.write_failure(number, None, f"Error: {reason}\nmore")
    assert failed(run) == (
        "7 of 9 trials failed: 2 with Error: a; 2 with Error: b; 1 with Error: c; the rest with 2 "
        f"other reasons. Each one's reason is in {tmp_path}/trials/NUMBER/error.txt"
    )
