"""Racing: who has lost, what is recorded of them, and that no front changes by it."""

from __future__ import annotations

from dataclasses import replace
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
from search.scoring.paired_stderr import paired_stderr
from search.scoring.racing import LOOKS, Race
from search.study import trials
from search.study.study import run_search
from synth.engines.transformers import AnswerLogprobs, TransformersEngine
from synth.probes.probe import ProbeSet
from synth.zoo import World, Zoo, probes

BOTH = {"domain": True, "over_refusal": False}


def values(seed: int, n: int = 64) -> Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed))


def race(error: float = 0.01) -> Race:
    """Against one point, good in both objectives and with a harmless that is none."""
    point = {
        "domain": 0.5 + 0.4 * values(0),
        "over_refusal": 0.5 * values(1),
        "harmless": values(2),
    }
    return Race([point], BOTH, error)


def behind(n: int, domain: float = 0.4, over_refusal: float = 0.4) -> dict[str, Tensor]:
    """A trial's values on the first n probes, so far behind the point."""
    point = race().front[0]
    return {
        "domain": point["domain"][:n] - domain,
        "over_refusal": point["over_refusal"][:n] + over_refusal,
    }


def test_a_trial_behind_on_every_probe_has_lost_and_is_recorded_behind_the_point() -> None:
    point = race().front[0]
    noise = 0.01 * values(3, 32)
    seen = behind(32)
    seen = {"domain": seen["domain"] - noise, "over_refusal": seen["over_refusal"] + noise}
    found = race().early_stop_scores({**seen, "harmless": values(4, 32)})
    assert found is not None
    gap = 0.4 + noise.mean().item()
    assert found["domain"].value == pytest.approx(point["domain"].mean().item() - gap, abs=1e-6)
    ahead = (point["domain"][:32] - seen["domain"]).tolist()
    assert found["domain"].stderr == paired_stderr(ahead) > 0.0
    assert found["over_refusal"].value > point["over_refusal"].mean().item() + 0.4
    assert {metric: score.n for metric, score in found.items()} == dict.fromkeys(
        ("domain", "over_refusal", "harmless"), 32
    )


def test_a_trial_that_is_ahead_or_equal_in_one_objective_goes_on() -> None:
    assert race().early_stop_scores(behind(32)) is not None
    assert race().early_stop_scores(behind(32, over_refusal=0.0)) is None
    assert race().early_stop_scores(behind(32, over_refusal=-0.2)) is None


@pytest.mark.parametrize(("error", "least"), [(0.5, 4), (0.01, 10), (1e-4, 17), (1e-6, 23)])
def test_the_probes_that_a_race_needs_follow_from_its_error(error: float, least: int) -> None:
    """n leads of 1 are no surer than n tosses that all fall alike, 2^-n, beside bets and looks."""
    won = Race([{"domain": torch.ones(64)}], {"domain": True}, error)
    asked = [n for n in range(1, 33) if won.early_stop_scores({"domain": torch.zeros(n)})]
    assert asked[0] == least
    assert 2.0**-least < error / 2


@pytest.mark.parametrize("lead", [0.02, 0.05, 0.1])
def test_equal_leads_are_not_certain(lead: float) -> None:
    point = torch.full((64,), 0.9)
    won = Race([{"domain": point}], {"domain": True}, 0.01)
    assert won.early_stop_scores({"domain": point[:16] - lead}) is None


def test_nobody_loses_against_nobody_or_without_an_error_to_make() -> None:
    seen = behind(64)
    assert race().early_stop_scores(seen) is not None
    assert race(error=0.0).early_stop_scores(seen) is None
    assert Race([], BOTH, 0.01).early_stop_scores(seen) is None
    unmeasured = {"domain": seen["domain"]}  # such as degenerate, which no probe has a value of
    assert race().early_stop_scores(unmeasured) is None


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


@pytest.mark.parametrize("kind", ["even", "skewed", "right or wrong"])
@pytest.mark.parametrize("error", [0.05, 0.2])
def test_a_search_drops_a_trial_of_the_front_as_rarely_as_configured(
    kind: str, error: float
) -> None:
    """60 searches of six trials against three points, which tie with them in one objective."""
    draws = torch.Generator().manual_seed(3)
    spoiled = 0
    for _ in range(60):
        wrong = False
        for _ in range(6):
            lead = tied(kind, 64, draws)
            one = torch.full((64,), 0.5, dtype=torch.float64)
            front = [{"one": one, "two": torch.full((64,), 0.9 - 0.1 * i)} for i in range(3)]
            raced = Race(front, {"one": True, "two": True}, error / 6)
            trial = {"one": one - lead, "two": torch.zeros(64)}
            looks = ({m: row[:n] for m, row in trial.items()} for n in (16, 32))
            wrong |= any(raced.early_stop_scores(seen) is not None for seen in looks)
        spoiled += wrong
    assert spoiled / 60 <= error


def tied(kind: str, n: int, draws: torch.Generator) -> Tensor:
    """Leads (n,) of sum 0 in random order: normal, small with a few large defeats, or +-1/2."""
    if kind == "even":
        leads = 0.1 * torch.randn(n, generator=draws, dtype=torch.float64)
        leads -= leads.mean()
    else:
        few = n // 2 if kind == "right or wrong" else n // 16
        leads = torch.full((n,), 0.5 * few / (n - few), dtype=torch.float64)
        leads[:few] = -0.5
    return leads[torch.randperm(n, generator=draws)]


def test_there_is_a_look_after_every_part_of_the_probes_but_the_last() -> None:
    assert len(staged(probes(World(0), "search", 8))) == LOOKS + 1


def test_racing_saves_probes_and_leaves_the_front_as_it_is(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hardly trained models differ by too little, so likelihoods are spread out first."""
    record["search"] |= {"trials": 16, "sampler": "random", "race_error": 0.9, "answered": 0}
    record["probes"] |= {"heldout_frac": 0.05, "validation_frac": 0.05}
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

    score = TransformersEngine.score

    def spread(self: TransformersEngine, batches: Any) -> AnswerLogprobs:
        found = score(self, batches)
        steep = torch.exp(-30.0 * (found.logprob / found.tokens + 5.2))
        return replace(found, logprob=-found.tokens * steep)

    monkeypatch.setattr(TransformersEngine, "score", spread)
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
    won = Race([{**best, "over_refusal": torch.zeros(32)}], {"domain": True, "harmless": True}, 0.5)
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
