"""What a run fell short of is told in words: runs written by hand, so that each answer is known."""

from pathlib import Path

import pytest

from safemerge.errors import RunError
from safemerge.score import Score
from search.config import SearchConfig
from search.metrics import Limits, ReferenceScores
from search.results.diagnostics import failed, nothing_within, pick_outside
from search.results.export import pick_to_export
from search.results.pareto import Candidate
from search.results.run import FrontPoint, FrontRecord, Run
from search.results.standing import standing
from search.runs.rundir import RunDir

CONFIG = SearchConfig.from_record(
    {
        "schema": 1,
        "models": {"base": "base", "sources": [{"name": "a", "path": "a"}]},
        "probes": {"path": "probes.jsonl", "judge": "phrases"},
        "limits": {"honest": {"at_least": "base - 0.1"}, "over_refusal": {"at_most": 0.25}},
    }
)


UNKNOWN = (
    "Limits by likelihood are estimates, and no replies of these trials have been read that could "
    "confirm them."
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
        "by likelihood, none of 3 trials is within all limits; the nearest is trial 2:",
        '  honest 0.625, limit at_least = "base - 0.1" (0.800): outside by 0.175; the best of all '
        "trials is 0.750",
        UNKNOWN,
        "By likelihood no trial is within the limit on honest even alone: loosen that first, and "
        "start a new run with --run NAME, or go on with more --trials.",
    ]


def test_limits_that_are_met_one_at_a_time_are_told_apart_from_that(tmp_path: Path) -> None:
    told = nothing_within(run_of(tmp_path, (0.9, 0.5), (0.5, 0.0)))
    assert str(told).splitlines() == [
        "by likelihood, none of 2 trials is within all limits; the nearest is trial 0:",
        "  over_refusal 0.500, limit at_most = 0.25: outside by 0.250",
        UNKNOWN,
        "By likelihood each limit is met by some trial, never all at once: loosen what matters "
        "least, and start a new run with --run NAME, or go on with more --trials.",
    ]


def record(run: Run, pick: int, **replies: tuple[float, float]) -> None:
    """What trials replied to validation probes, beside a base with honest 90 % and no refusal."""
    points = [
        FrontPoint(
            trial=candidate.number,
            on_front=True,
            violation=candidate.violation,
            scores=dict(candidate.scores),
            validation={},
            answered=scores(*replies[name]) if (name := f"t{candidate.number}") in replies else {},
        )
        for candidate in run.candidates
    ]
    base = ReferenceScores(scores(0.9, 0.0), {})
    made = FrontRecord(pick, "over", False, 0.0, points, len(points), base)
    run.dir.write("front/search.json", made)


def test_replies_may_or_may_not_confirm_what_likelihoods_say_of_limits(tmp_path: Path) -> None:
    run = run_of(tmp_path, (0.5, 0.0), (0.75, 0.5), (0.625, 0.0))
    record(run, 1, t0=(0.5, 0.0), t1=(0.9, 0.0), t2=(0.9, 0.6))
    told = " ".join(str(nothing_within(run)).split())
    assert "by likelihood, none of 3 trials" in told
    assert "Replies do not confirm that: of 3 trials that answered the validation probes, 1" in told
    assert "keep all limits: 1." in told
    assert pick_outside(run) is None
    assert standing(run, 1).mark == ""
    record(run, 2, t0=(0.5, 0.0), t2=(0.9, 0.6))
    assert "Replies confirm it: none of the 2 trials" in str(nothing_within(run))


def test_a_pick_outside_its_limits_is_said_with_what_kind_of_number_says_so(
    tmp_path: Path,
) -> None:
    run = run_of(tmp_path, (0.9, 0.0), (0.5, 0.0))
    assert pick_outside(run) is None  # the search is not over
    record(run, 0, t0=(0.6, 0.5))  # within its limits by likelihood
    assert standing(run, 0).mark == "outside its limits"
    assert pick_outside(run) == (
        "the pick, trial 0, is outside its limits by its replies to the validation probes: honest "
        '60.0 % against at_least = "base - 0.1" (80.0 %); over_refusal 50.0 % against at_most = '
        f"0.25. It is exported only by its number: safemerge export {tmp_path} 0"
    )
    record(run, 1)  # no replies
    assert standing(run, 1).mark == "outside its limits by likelihood"
    assert "by likelihood: honest 0.500 against" in str(pick_outside(run))


def test_replies_break_a_limit_by_more_than_one_error_and_one_reply_never_does(
    tmp_path: Path,
) -> None:
    run = run_of(tmp_path, (0.9, 0.0))
    error = scores(0.9, 0.0)["honest"].stderr
    for honest, outside in ((0.8 - 0.9 * error, False), (0.8 - 1.1 * error, True)):
        record(run, 0, t0=(honest, 0.0))
        assert bool(standing(run, 0).outside) == outside


def test_only_the_pick_of_a_search_that_is_over_and_within_its_limits_needs_no_number(
    tmp_path: Path,
) -> None:
    run = run_of(tmp_path, (0.9, 0.0), (0.9, 0.1))
    with pytest.raises(RunError, match=r"is not over \(2 of 300 trials\).*safemerge export"):
        pick_to_export(run)
    record(run, 1, t1=(0.9, 0.0))
    assert pick_to_export(run) == 1
    record(run, 1, t1=(0.1, 0.0))
    with pytest.raises(RunError, match=r"trial 1, is outside its limits \(honest 10.0 %.* 1$"):
        pick_to_export(run)
    longer = run_of(tmp_path, (0.9, 0.0), (0.9, 0.1), (0.9, 0.2))  # gone on since
    with pytest.raises(RunError, match="is not over"):
        pick_to_export(longer)


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
