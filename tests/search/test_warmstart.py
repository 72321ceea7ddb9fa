"""The gradient warm start: lowers the loss, repeats with its seed, and is held by its pull."""

from __future__ import annotations

from typing import Any

import pytest

from safemerge.recipe import Recipe
from search.config import SearchConfig
from search.config.study import WarmStartConfig
from search.setup import Workbench, open_workbench
from search.warmstart import warm_start


@pytest.fixture
def bench(record: dict[str, Any]) -> Workbench:
    return open_workbench(SearchConfig.from_record(record))


def descend(bench: Workbench, *, seed: int = 0, **options: Any) -> list[Recipe]:
    return warm_start(
        bench.engine,
        bench.resident(bench.space.beginning()),
        bench.space,
        bench.search_probes,
        objectives=("domain", "harmless"),
        limited=(),
        config=WarmStartConfig(**{"steps": 12, "ring": 1, "batch": 8, **options}),
        seed=seed,
    )


def distance(bench: Workbench, recipe: Recipe) -> float:
    """Largest distance of a weight to where the search begins."""
    return max(
        abs(weight - bench.space.start[source])
        for weights in recipe.weights.values()
        for source, weight in weights.items()
    )


def test_a_descent_makes_the_searched_answers_likelier(bench: Workbench) -> None:
    def likelihood(recipe: Recipe) -> float:
        bench.resident(recipe).apply(recipe, bench.live)
        scores = bench.evaluator.score_live()
        return scores["domain"].value + scores["harmless"].value

    (found,) = descend(bench)
    assert likelihood(found) > likelihood(bench.space.beginning())


def test_the_same_seed_finds_the_same_recipes(bench: Workbench) -> None:
    assert descend(bench, ring=3) == descend(bench, ring=3)
    assert descend(bench) != descend(bench, seed=1)


def test_the_noise_changes_the_recipe_and_none_is_drawn_without_it(bench: Workbench) -> None:
    assert descend(bench, noise=0.0) != descend(bench)


def test_a_strong_pull_holds_the_weights_at_the_prior(bench: Workbench) -> None:
    free, held = (descend(bench, pull=pull)[0] for pull in (0.0, 1e6))
    assert distance(bench, held) < 0.2 * distance(bench, free)


def test_the_ring_goes_on_with_the_moments_of_the_balanced_descent(bench: Workbench) -> None:
    """Adam's first step without them changes every weight by the same whole rate."""
    centre, other = descend(bench, steps=3, ring=2)
    moved = [
        abs(weight - centre.weights[group][source])
        for group, weights in other.weights.items()
        for source, weight in weights.items()
    ]
    assert 0.0 < min(moved) < 0.95 * max(moved)


def test_a_descent_of_few_steps_still_crosses_a_quarter_of_the_range(bench: Workbench) -> None:
    low, high = bench.space.ranges.weight
    reach = 0.25 * (high - low)
    for steps in (4, 8):
        (found,) = descend(bench, steps=steps, learning_rate=1e-6, noise=0.0, pull=0.0)
        assert 0.5 * reach < distance(bench, found) <= 1.3 * reach
