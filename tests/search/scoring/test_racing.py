"""Racing: who has lost, what is recorded of them, and that no front changes by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from safemerge.recipe import Recipe
from search.config import SearchConfig
from search.results.pareto import Front
from search.runs.workbench import Workbench
from search.scoring.likelihood import LikelihoodEvaluator, Measurement, staged
from search.scoring.racing import Race
from search.study import trials
from search.study.study import run_search
from synth.engines.transformers import TransformersEngine
from synth.probes.probe import ProbeSet
from synth.zoo import World, Zoo, probes

BOTH = {"domain": True, "over_refusal": False}


def values(seed: int, n: int = 64) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed))


def race(**changes: Tensor) -> Race:
    """Against one point, good in both objectives and with a harmless that is none."""
    point = {"domain": 0.9 * values(0), "over_refusal": 0.5 * values(1), "harmless": values(2)}
    return Race([{**point, **changes}], BOTH)


def test_a_trial_behind_on_every_probe_has_lost_and_is_recorded_behind_the_point() -> None:
    point = race().front[0]
    noise = 0.01 * values(3, 16)
    seen = {
        "domain": point["domain"][:16] - 0.2 - noise,
        "over_refusal": point["over_refusal"][:16] + 0.1 + noise,
        "harmless": values(4, 16),
    }
    found = race().early_stop_scores(seen)
    assert found is not None
    gap = 0.2 + noise.mean().item()
    assert found["domain"].value == pytest.approx(point["domain"].mean().item() - gap, abs=1e-6)
    assert found["domain"].stderr == pytest.approx(noise.std().item() / 4.0, abs=1e-6)
    assert found["over_refusal"].value > point["over_refusal"].mean().item() + 0.1
    assert {metric: score.n for metric, score in found.items()} == dict.fromkeys(seen, 16)


def test_a_trial_that_is_ahead_or_equal_in_one_objective_goes_on() -> None:
    point = race().front[0]
    behind = {"domain": point["domain"][:16] - 0.2, "over_refusal": point["over_refusal"][:16]}
    assert race().early_stop_scores(behind) is None
    assert (
        race().early_stop_scores({**behind, "over_refusal": behind["over_refusal"] - 0.2}) is None
    )
    assert (
        race().early_stop_scores({**behind, "over_refusal": behind["over_refusal"] + 0.2})
        is not None
    )


def test_nobody_loses_by_few_probes_or_against_nobody() -> None:
    point = race().front[0]
    for n, lost in ((7, False), (8, True)):
        seen = {
            "domain": point["domain"][:n] - 0.2,
            "over_refusal": point["over_refusal"][:n] + 0.2,
        }
        assert (race().early_stop_scores(seen) is not None) == lost
        assert Race([], BOTH).early_stop_scores(seen) is None


@given(st.integers(0, 2**31), st.integers(8, 64), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_whoever_loses_is_dominated_by_a_point_of_the_front(
    seed: int, n: int, shift: float, spread: float
) -> None:
    point = race().front[0]
    seen = {
        "domain": (point["domain"][:n] - shift + spread * (values(seed, n) - 0.5)).clamp(0, 1),
        "over_refusal": (point["over_refusal"][:n] + shift * values(seed + 1, n)).clamp(0, 1),
    }
    found = race().early_stop_scores(seen)
    if found is not None:
        assert found["domain"].value < point["domain"].mean().item()
        assert found["over_refusal"].value > point["over_refusal"].mean().item()


def test_a_trial_that_is_not_dominated_is_dropped_as_rarely_as_stated() -> None:
    """It is as good as the point in one objective and far behind in the other: the worst case.

    Both looks, at 16 and 32 of 64 probes, in 20,000 races.
    """
    draws = torch.Generator().manual_seed(3)
    dropped = 0
    for _ in range(20_000):
        point = {"domain": torch.rand(64, generator=draws), "over_refusal": torch.zeros(64)}
        trial = {
            "domain": point["domain"] + 0.2 * torch.randn(64, generator=draws),
            "over_refusal": 0.5 + 0.5 * torch.rand(64, generator=draws),
        }
        race = Race([point], BOTH)
        looks = ({m: values[:n] for m, values in trial.items()} for n in (16, 32))
        dropped += any(race.early_stop_scores(seen) is not None for seen in looks)
    assert 0.002 < dropped / 20_000 <= 0.008


def test_racing_saves_probes_and_leaves_the_front_as_it_is(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record["search"] |= {"trials": 24, "sampler": "random"}
    record["probes"]["path"] = str(tmp_path / "probes.jsonl")
    ProbeSet(tuple(probes(World(0), "search", 64))).to_jsonl(tmp_path / "probes.jsonl")
    config = SearchConfig.from_record(record)
    early: list[str] = []
    measure = Workbench.measure

    def watched(self: Workbench, recipe: Recipe, *args: Any, **rest: Any) -> Measurement:
        found = measure(self, recipe, *args, **rest)
        if found.by_probe is None:
            early.append(recipe.canonical_json())
        return found

    monkeypatch.setattr(Workbench, "measure", watched)
    raced = run_search(config, tmp_path / "raced")
    assert early
    monkeypatch.setattr(trials, "race_of", lambda *_: None)
    whole = run_search(config, tmp_path / "whole")
    fronts = [Front.of(run.candidates, config.directions) for run in (raced, whole)]
    assert [p.number for p in fronts[0].points] == [p.number for p in fronts[1].points]
    assert [p.scores for p in fronts[0].points] == [p.scores for p in fronts[1].points]
    assert not {p.recipe.canonical_json() for p in fronts[0].points} & set(early)


def test_a_model_that_loses_is_asked_a_quarter_unless_a_fitness_takes_all(
    raw_zoo: Zoo,
) -> None:
    engine = TransformersEngine(raw_zoo.base)  # hardly trained
    asked = tuple(probes(World(0), "search", 32))
    best = {axis: torch.ones(32) for axis in ("domain", "harmless", "helpful", "honest")}
    won = Race([{**best, "over_refusal": torch.zeros(32)}], {"domain": True, "harmless": True})
    for fitness, n in ((None, 8), ({"domain": 1.0}, 32)):
        evaluator = LikelihoodEvaluator(engine, asked, fitness=fitness)
        found = evaluator.measure_live(race=won)
        assert found.scores["domain"].n == found.scores["over_refusal"].n == n
        assert (found.by_probe is None) == (fitness is None)
        assert found.scores["domain"].value == pytest.approx(
            evaluator.score_live()["domain"].value, abs=0.2
        )


def test_parts_are_every_probe_once() -> None:
    asked = probes(World(0), "search", 24)
    parts = staged(asked)
    assert sorted(p.id for part in parts for p in part) == sorted(p.id for p in asked)
    assert [len(part) * 4 // len(asked) for part in parts] == [1, 1, 2]
