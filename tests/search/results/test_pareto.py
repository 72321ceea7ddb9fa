"""The front: domination, hypervolume, limits, picks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemerge import ModelRef, Recipe
from safemerge.errors import BadInput
from safemerge.score import Score
from search.metrics import Limit, Limits, ReferenceScores
from search.results.pareto import Candidate, Front, hypervolume

RECIPE = Recipe(
    base=ModelRef(name="base", path="base"),
    sources=(ModelRef(name="a", path="a"),),
    method="linear",
    weights={"default": {"a": 1.0}},
)
BOTH = {"domain": True, "harmless": True}


def candidate(number: int, domain: float, harmless: float, violation: float = 0.0) -> Candidate:
    scores = {"domain": Score(domain, 0.0, 1), "harmless": Score(harmless, 0.0, 1)}
    return Candidate(number, RECIPE, scores, violation)


def values(front: Front) -> list[tuple[float, float]]:
    return [(p.scores["domain"].value, p.scores["harmless"].value) for p in front.points]


shares = st.floats(0.0, 1.0).map(lambda x: round(x, 2))


@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=12))
def test_the_front_is_what_nothing_dominates(points: list[tuple[float, float]]) -> None:
    front = Front.of([candidate(i, *point) for i, point in enumerate(points)], BOTH)
    expected = {
        point
        for point in points
        if not any(a >= point[0] and b >= point[1] and (a, b) != point for a, b in points)
    }
    assert values(front) == sorted(expected, reverse=True)


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_hypervolume_of_a_staircase_has_a_closed_form(n: int) -> None:
    # Corners (i/n, (n+1-i)/n): column i contributes a rectangle of width 1/n.
    steps = [candidate(i, i / n, (n + 1 - i) / n) for i in range(1, n + 1)]
    expected = sum((n + 1 - i) / n for i in range(1, n + 1)) / n
    assert Front.of(steps, BOTH).hypervolume() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_hypervolume_in_three_dimensions_is_the_count_of_dominated_cells(seed: int) -> None:
    """On a grid of steps of an eighth, of which a cell is dominated when its far corner is."""
    steps = 8
    corners = np.random.default_rng(seed).integers(0, steps + 1, size=(7, 3))
    cells = np.stack(np.meshgrid(*[np.arange(steps)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    dominated = (cells[:, None, :] < corners[None]).all(axis=-1).any(axis=-1)
    directions = {"domain": True, "harmless": True, "over_refusal": False}
    gains = corners / steps - [0.0, 0.0, 1.0]  # a minimised value v counts as 1 - v
    assert hypervolume(gains.tolist(), directions) == pytest.approx(dominated.sum() / steps**3)


def test_a_minimised_objective_counts_as_one_minus_value() -> None:
    scores = {"domain": Score(0.8, 0, 1), "over_refusal": Score(0.25, 0, 1)}
    front = Front.of([Candidate(0, RECIPE, scores, 0.0)], {"domain": True, "over_refusal": False})
    assert front.hypervolume() == pytest.approx(0.8 * 0.75)


def test_infeasible_points_join_only_when_nothing_is_feasible() -> None:
    bad = [candidate(0, 1.0, 1.0, violation=0.3), candidate(1, 0.1, 0.1, violation=0.2)]
    good = candidate(2, 0.5, 0.5)
    assert values(Front.of([*bad, good], BOTH)) == [(0.5, 0.5)]
    nearest = Front.of(bad, BOTH)
    assert [point.number for point in nearest.points] == [1]
    assert nearest.hypervolume() == 0.0


def test_picks_obey_bounds_and_minimax_regret_balances() -> None:
    points = [candidate(i, d, h) for i, (d, h) in enumerate([(0.9, 0.2), (0.7, 0.7), (0.2, 0.9)])]
    front = Front.of(points, BOTH)
    assert front.minimax_regret().number == 1
    assert front.pick(maximise="domain").number == 0
    assert front.pick(at_least={"harmless": 0.6}, maximise="domain").number == 1
    assert front.pick(at_most={"domain": 0.5}).number == 2


def test_a_gain_of_nothing_does_not_outweigh_a_loss() -> None:
    points = [candidate(0, 0.97, 0.993), candidate(1, 0.91, 0.996), candidate(2, 0.87, 0.997)]
    assert Front.of(points, BOTH).minimax_regret().number == 0


def test_a_pick_that_no_point_allows_says_what_is_possible() -> None:
    front = Front.of([candidate(0, 0.9, 0.2)], BOTH)
    with pytest.raises(BadInput, match=r"no point .*\(1 in all\) .*0.5.*harmless 0.200"):
        front.pick(at_least={"harmless": 0.5})
    with pytest.raises(BadInput, match="metric 'harmles' was not measured; did you mean harmless"):
        front.pick(maximise="harmles")


def test_a_front_without_points_says_why_there_is_nothing_to_pick() -> None:
    with pytest.raises(BadInput, match="no point to pick: no trial has finished yet"):
        Front.of([], BOTH).pick()


BASE = {"honest": Score(0.5, 0.0, 1), "over_refusal": Score(0.02, 0.0, 1)}
SOURCES = {"a": {"honest": Score(0.9, 0.0, 1), "over_refusal": Score(0.3, 0.0, 1)}}


@pytest.mark.parametrize(
    ("metric", "limit", "value", "violation"),
    [
        ("honest", {"at_least": 0.7}, 0.6, 0.1),
        ("honest", {"at_least": "base - 0.1"}, 0.6, -0.2),
        ("honest", {"at_least": "best - 0.05"}, 0.6, 0.25),
        ("over_refusal", {"at_most": "base + 0.03"}, 0.1, 0.05),
        ("over_refusal", {"at_most": "best"}, 0.1, 0.08),
        ("over_refusal", {"at_most": 0}, 0.0, 0.0),
    ],
)
def test_a_limit_is_feasible_when_its_violation_is_not_positive(
    metric: str, limit: dict[str, object], value: float, violation: float
) -> None:
    scores = {metric: Score(value, 0.0, 1)}
    limits = Limits({metric: Limit.model_validate(limit)}, ReferenceScores(BASE, SOURCES))
    assert limits.violations(scores) == pytest.approx({metric: violation})
    assert limits.total(scores) == pytest.approx(max(violation, 0.0))
