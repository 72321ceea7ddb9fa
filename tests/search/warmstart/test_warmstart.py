"""The gradient warm start: lowers the loss, repeats with its seed, and is held near its prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from safemerge.errors import SafemergeError
from safemerge.recipe import Recipe
from search.config import SearchConfig
from search.config.search import WarmStartConfig
from search.runs.rundir import RunDir
from search.runs.workbench import Workbench, open_workbench
from search.warmstart import probe_losses
from search.warmstart.descent import Descent, Iterate
from search.warmstart.probe_losses import BEGINNING, GroupLosses, LossGroups, ProbeLosses, grouped
from search.warmstart.warmstart import WarmStart, axis_pairs, scalarizations, warm_start
from synth.probes.probe import Probe


@pytest.fixture
def bench(record: dict[str, Any]) -> Workbench:
    return open_workbench(SearchConfig.from_record(record))


def started(
    bench: Workbench,
    config: WarmStartConfig,
    validation: tuple[Probe, ...] = (),
    *,
    limited: tuple[str, ...] = (),
    seed: int = 0,
    home: RunDir | None = None,
    progress: Callable[[int, int], None] | None = None,
    general: Sequence[tuple[str, str]] = (),
) -> tuple[list[Recipe], int]:
    start = WarmStart(
        bench.engine,
        bench.resident(bench.space.beginning()),
        bench.space,
        bench.space.beginning(),
        bench.evaluator.probes,
        validation,
        objectives=("domain", "harmless"),
        limited=limited,
        sum_over_tokens=False,
        seed=seed,
        general=general,
    )
    return warm_start(start, config, home, progress)


def descend(
    bench: Workbench, *, seed: int = 0, home: RunDir | None = None, **options: Any
) -> list[Recipe]:
    config = WarmStartConfig(**{"steps": 4, "scalarizations": 1, **options})
    return started(bench, config, seed=seed, home=home)[0]


def weights(recipe: Recipe) -> torch.Tensor:
    return torch.tensor([list(by_source.values()) for by_source in recipe.weights.values()])


def distance(bench: Workbench, recipe: Recipe) -> float:
    """Largest distance of a weight to where the search begins."""
    return (weights(recipe) - torch.tensor(list(bench.space.start.values()))).abs().max().item()


def scores(bench: Workbench, recipe: Recipe) -> dict[str, float]:
    bench.resident(recipe).apply(recipe, bench.live)
    return {name: score.value for name, score in bench.evaluator.score_live().items()}


def test_a_descent_makes_the_searched_answers_likelier(bench: Workbench) -> None:
    before = scores(bench, bench.space.beginning())
    after = scores(bench, descend(bench)[0])
    assert after["domain"] + after["harmless"] > before["domain"] + before["harmless"]


def test_a_scalarization_favours_its_objective(bench: Workbench) -> None:
    _, domain, harmless = (scores(bench, one) for one in descend(bench, scalarizations=3)[:3])
    assert domain["domain"] > harmless["domain"]
    assert harmless["harmless"] > domain["harmless"]


def test_general_prompts_hold_the_recipe_to_how_the_base_begins(bench: Workbench) -> None:
    assert bench.general is not None
    prompts = bench.general.half("search")
    bench.load_model()
    general = list(zip(prompts, bench.engine.chat(prompts, max_tokens=16), strict=True))
    config = WarmStartConfig(steps=4, scalarizations=1)
    free, held = (started(bench, config, general=some)[0][0] for some in ((), general))

    def likelihood(recipe: Recipe) -> float:
        bench.make_live(recipe)
        batches = bench.engine.encode(general, [BEGINNING] * len(general))
        return bench.engine.score(batches).logprob.sum().item()

    assert likelihood(held) > likelihood(free)


def test_steps_left_over_go_to_the_other_scalarizations(bench: Workbench) -> None:
    """Four steps are the balanced recipe's alone; with twelve, two more get two each."""
    done: list[tuple[int, int]] = []
    started(
        bench,
        WarmStartConfig(steps=12, scalarizations=3, batch=8),
        limited=("honest", "domain"),
        progress=lambda *step: done.append(step),
    )
    assert done == [(step, 12) for step in range(1, 13)]


def test_the_balanced_recipe_is_tried_at_other_ranks_within_the_range(bench: Workbench) -> None:
    low, high = bench.space.ranges.rank_ratio
    searched = np.geomspace(low, high, 11)
    tried = ((0.19, [0.19, 0.1, 0.36]), (low, [low, 2 * low]), (high, [high, high / 2]))
    for ratio, ratios in tried:
        found = descend(bench, steps=1, rank_ratio=ratio)
        kept = [one.rank_ratio["layer.0"] for one in found]
        assert np.abs(np.log(kept) - np.log(ratios)).max() < 0.1
        assert np.abs(np.log(searched)[:, None] - np.log(kept)).min(axis=0).max() < 1e-9
        assert all(one.weights == found[0].weights for one in found)


def test_the_same_seed_finds_the_same_recipes(bench: Workbench) -> None:
    assert descend(bench, scalarizations=3) == descend(bench, scalarizations=3)
    assert descend(bench) != descend(bench, seed=1)


def test_the_noise_changes_the_recipe(bench: Workbench) -> None:
    assert descend(bench, weight_noise_std=0.0) != descend(bench)


def test_a_penalty_brings_the_recipe_nearer_to_the_prior_and_leaves_the_steps(
    bench: Workbench, linearised: list[torch.Tensor]
) -> None:
    free, *_ = descend(bench, prior_l2=0.0)
    steps = linearised.copy()
    linearised.clear()
    held, *_ = descend(bench, prior_l2=1e6)
    assert distance(bench, held) < 0.5 * distance(bench, free)
    assert len(steps) == 4
    assert all(map(torch.equal, linearised, steps))


def stopped(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, losses: list[float]
) -> tuple[list[list[float]], list[float], int]:
    """Twenty steps with made-up validation losses, one for each linearisation; the last goes on.

    Returns:
        What was linearised, where it went back to, and how many steps it says it took.
    """
    made: list[list[float]] = []
    measure = ProbeLosses.measure

    def measured(self: ProbeLosses, knots: torch.Tensor) -> GroupLosses:
        found = measure(self, knots)
        assert found is not None
        made.append(knots.tolist())
        loss = losses[min(len(made), len(losses)) - 1]
        return replace(found, validation=[loss] * len(found.validation))

    monkeypatch.setattr(ProbeLosses, "measure", measured)
    config = WarmStartConfig(steps=20, scalarizations=1, patience=2)
    solution, ends = Descent.solution, []

    def ended(self: Descent, end: Iterate, *args: Any) -> torch.Tensor:
        ends.append(end.point.at.tolist())
        return solution(self, end, *args)

    monkeypatch.setattr(Descent, "solution", ended)
    _, steps = started(bench, config, bench.probes.split("validation").probes)
    return made, ends[0], steps


def test_the_descent_goes_back_to_where_validation_probes_were_answered_best(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, centre, steps = stopped(bench, monkeypatch, [900.0, 500.0, 100.0, 400.0])
    assert steps == len(made) == 5
    assert centre == made[2]


def test_search_probes_outweigh_a_few_lucky_validation_probes(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their loss is a little higher from the second point on, where the search's is far lower."""
    _, _, steps = stopped(bench, monkeypatch, [1.0, 1.001])
    assert steps > 3


def test_losses_that_say_when_to_stop_are_those_of_all_probes(bench: Workbench) -> None:
    """Against the engine's own scores, at the prior."""
    validation = bench.probes.split("validation").probes
    groups, kept = (
        grouped(bench.engine, axis_pairs(probes, ("domain", "honest")), 3, seed=0)
        for probes in (bench.evaluator.probes, validation)
    )
    first = bench.space.beginning()
    losses = ProbeLosses(
        bench.engine, bench.resident(first), bench.space, first, LossGroups(groups, kept, True)
    )
    begin = Descent(losses, WarmStartConfig(), None).linearise(losses.prior)
    assert begin is not None
    recipe = losses.recipe(losses.prior)
    bench.resident(recipe).apply(recipe, bench.live)
    for axis in ("domain", "honest"):
        rows = [probe for probe in (*bench.evaluator.probes, *validation) if probe.axis == axis]
        scored = bench.engine.score(bench.engine.encode([(p.prompt, p.answer) for p in rows]))
        assert begin.losses[axis] == pytest.approx(-scored.logprob.mean().item(), rel=1e-4)


def test_the_first_step_goes_no_further_than_the_radius(
    bench: Workbench, linearised: list[torch.Tensor]
) -> None:
    low, high = bench.space.ranges.weight
    for radius in (0.02, 0.1):
        linearised.clear()
        descend(bench, steps=2, radius=radius, weight_noise_std=0.0)
        prior, first = linearised
        assert (first - prior).abs().max().item() == pytest.approx(radius * (high - low), rel=1e-3)


def test_after_a_stop_no_linearisation_is_made_twice(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = descend(bench, scalarizations=3)
    measure, made = ProbeLosses.measure, []

    def stopping(self: ProbeLosses, knots: torch.Tensor) -> GroupLosses | None:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(knots)
        return measure(self, knots)

    monkeypatch.setattr(ProbeLosses, "measure", stopping)
    with pytest.raises(KeyboardInterrupt):
        descend(bench, scalarizations=3, home=RunDir(tmp_path))
    made.clear()
    assert descend(bench, scalarizations=3, home=RunDir(tmp_path)) == expected
    assert len(made) == 2  # of four steps


def test_a_merge_that_overflows_is_stepped_back_from(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, made = ProbeLosses.measure, []

    def overflowing(self: ProbeLosses, knots: torch.Tensor) -> GroupLosses | None:
        made.append(knots)
        return None if len(made) == 2 else measure(self, knots)

    monkeypatch.setattr(ProbeLosses, "measure", overflowing)
    descend(bench, steps=3)
    prior, far, near = made
    first, second = ((knots - prior).abs().max().item() for knots in (far, near))
    assert second == pytest.approx(0.5 * first, rel=0.01)


def test_a_prior_that_overflows_is_refused(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    logprobs = probe_losses.answer_logprobs

    def overflowing(*args: Any) -> Any:
        logprob, *rest = logprobs(*args)
        return logprob * torch.nan, *rest

    monkeypatch.setattr(probe_losses, "answer_logprobs", overflowing)
    with pytest.raises(SafemergeError, match=r"not finite.*set search.warm_start.steps = 0"):
        descend(bench)


def test_scalarizations_favour_one_objective_at_a_time_and_then_go_further_out() -> None:
    assert scalarizations(("a", "b"), 4) == [
        {"a": 1.0, "b": 1.0},
        {"a": 1.0, "b": 0.5},
        {"a": 0.5, "b": 1.0},
        {"a": 1.0, "b": 0.25},
    ]
    assert scalarizations(("a",), 4) == [{"a": 1.0}]
