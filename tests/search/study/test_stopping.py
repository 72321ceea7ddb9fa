"""Stop rules: each says when and why, and only finished trials decide."""

from typing import Any

import optuna
import pytest

from search.config import SearchConfig
from search.metrics import Limits, ReferenceScores
from search.runs.rundir import RunDir
from search.study import stopping
from search.study.context import StudyContext
from search.study.stopping import SECONDS


def config(trials: int = 100, **stop: Any) -> SearchConfig:
    return SearchConfig.from_record(
        {
            "schema": 1,
            "models": {"base": "base", "sources": [{"name": "a", "path": "a"}]},
            "probes": {"path": "probes.jsonl", "judge": "phrases"},
            "objectives": {"domain": {}, "over_refusal": {}},
            "search": {"trials": trials, "stop": stop},
        }
    )


def reason_to_stop(found: optuna.Study, rules: SearchConfig) -> str | None:
    limits = Limits({}, ReferenceScores({}, {}))
    context = StudyContext(RunDir("run"), found, rules.search, rules.directions, limits)
    return stopping.reason_to_stop(context)


def study(*points: tuple[float, float], violation: float = 0.0) -> optuna.Study:
    """Finished trials with these values of domain (more is better) and over-refusal (less is)."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = optuna.create_study(directions=["maximize", "minimize"])
    for values in points:
        trial = made.ask()
        trial.set_user_attr(SECONDS, 900.0)
        trial.set_constraint("honest", violation)
        made.tell(trial, values)
    return made


def test_a_search_without_rules_ends_with_its_trials() -> None:
    found = study((0.5, 0.1), (0.5, 0.1))
    assert reason_to_stop(found, config()) is None
    assert reason_to_stop(found, config(trials=2)) == "2 trials are complete"


def test_hours_are_those_of_all_trials_failed_ones_too() -> None:
    found = study(*[(0.5, 0.1)] * 3)
    assert reason_to_stop(found, config(hours=1.0)) is None
    trial = found.ask()
    trial.set_user_attr(SECONDS, 900.0)
    found.tell(trial, state=optuna.trial.TrialState.FAIL)
    assert reason_to_stop(found, config(hours=1.0)) == "trials have taken 1 hours"


def test_a_target_is_reached_by_one_trial_in_every_objective_and_limit() -> None:
    target = {"domain": 0.8, "over_refusal": 0.1}
    apart = study((0.9, 0.2), (0.7, 0.0))
    assert reason_to_stop(apart, config(target=target)) is None
    both = study((0.9, 0.2), (0.8, 0.1))
    assert (
        reason_to_stop(both, config(target=target)) == "trial 1 reaches the target, by likelihood"
    )
    outside = study((0.9, 0.0), violation=0.01)
    assert reason_to_stop(outside, config(target=target)) is None


def test_a_front_is_flat_when_its_hypervolume_has_not_grown() -> None:
    points = [(0.5, 0.5), (0.6, 0.4), (0.6, 0.45), (0.3, 0.4)]
    assert reason_to_stop(study(*points[:3]), config(flat=2)) is None  # the second one was better
    reason = reason_to_stop(study(*points), config(flat=2))
    assert reason == "the hypervolume of the front was flat over the last 2 trials"
    assert reason_to_stop(study(*points, (0.7, 0.9)), config(flat=2)) is None  # a new corner


@pytest.mark.parametrize("n", [3, 30])
def test_without_a_trial_within_the_limits_nothing_is_flat(n: int) -> None:
    assert reason_to_stop(study(*[(0.5, 0.5)] * n, violation=0.1), config(flat=2)) is None
