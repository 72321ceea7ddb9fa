"""The front that trials race against, by its fast form, against two plain ones."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from safemerge import ModelRef, Recipe
from safemerge.score import Score
from search.config import StudyConfig
from search.metrics import Limits, ReferenceScores
from search.results.pareto import Candidate, Front
from search.runs.rundir import RunDir
from search.study.context import StudyContext
from search.study.race_opponents import front_numbers

DIRECTIONS = {"domain": True, "harmless": True, "over_refusal": False}
RECIPE = Recipe(
    base=ModelRef(name="base", path="base"),
    sources=(ModelRef(name="a", path="a"),),
    method="linear",
    weights={"default": {"a": 1.0}},
)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bound", [0.3, -1.0])
def test_the_front_is_that_of_optuna_and_of_the_results(seed: int, bound: float) -> None:
    """Of 40 random trials some, or all, break the limit."""
    study = optuna.create_study(
        directions=["maximize", "maximize", "minimize"],
        sampler=optuna.samplers.RandomSampler(seed=seed),
    )
    candidates = []
    for _ in range(40):
        trial = study.ask()
        values = [trial.suggest_float(name, 0.0, 1.0) for name in DIRECTIONS]
        violation = trial.suggest_float("honest", 0.0, 1.0) - bound
        trial.set_constraint("honest", violation)
        study.tell(trial, values)
        scores = {m: Score(v, 0.0, 8) for m, v in zip(DIRECTIONS, values, strict=True)}
        candidates.append(Candidate(trial.number, RECIPE, scores, max(violation, 0.0)))
    limits = Limits({}, ReferenceScores({}, {}))
    found = front_numbers(
        StudyContext(RunDir(Path("run")), study, StudyConfig(), DIRECTIONS, limits)
    )
    within = [c for c in candidates if c.feasible]
    assert sorted(found) == sorted(p.number for p in Front.of(within, DIRECTIONS).points)
    if within:
        assert sorted(found) == sorted(trial.number for trial in study.best_trials)
