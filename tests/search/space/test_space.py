"""The space: round trips between points and recipes, exactly off, choices, refusals."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safemerge.errors import BadInput, RecipeError
from safemerge.names import Role
from safemerge.recipe import ModelRef, Recipe, Vocabulary
from search.config import SpaceConfig
from search.config.profiles import recipe_places
from search.space.parameter import Parameter
from search.space.space import Space

MODULES = ("self_attn.q_proj", "mlp.down_proj")
TENSORS: dict[str, Role] = {
    "model.embed_tokens.weight": "embedding",
    **{f"model.layers.{i}.{module}.weight": "matrix" for i in range(6) for module in MODULES},
    # Only some layers have it, as experts or state spaces may be.
    **{f"model.layers.{i}.mixer.in_proj.weight": "matrix" for i in (1, 4, 5)},
    **{f"model.layers.{i}.input_layernorm.weight": "vector" for i in range(6)},
    "model.norm.weight": "vector",
}
PROFILES = (
    *("global", "global+kind", "global+module", "blocks(2)", "blocks(4)+kind", "blocks(3)+module"),
    *("layers", "layers+kind", "modules", "points(2)", "points(3)+kind", "points(5)+module"),
    *("points(9)", "kernel", "kernel+kind", "kernel+module"),
)


def space(methods: Any = ("resm",), **changes: Any) -> Space:
    ranges = SpaceConfig.model_validate(changes)
    template = Recipe(
        base=ModelRef(name="base", path="base"),
        sources=tuple(ModelRef(name=name, path=name) for name in "ab"),
        method=next(iter(methods)),
        places=recipe_places(ranges.places),
        weights={"default": {}},
    )
    params = methods if isinstance(methods, dict) else {name: {} for name in methods}
    return Space(template, params, ranges, TENSORS)


def points(searched: Space) -> st.SearchStrategy[dict[str, float | str]]:
    """Points of a space, its ends and what is exactly off among them."""

    def values(d: Parameter) -> st.SearchStrategy[Any]:
        if d.options:
            return st.sampled_from(d.options)
        if d.integer:
            return st.integers(int(d.low), int(d.high))
        return st.floats(d.low, d.high) | st.sampled_from([d.low, d.high, max(d.low, 0.0)])

    return st.fixed_dictionaries({name: values(d) for name, d in searched.parameters.items()})


def numbers(recipe: Recipe) -> dict[str, float]:
    found = {f"{g}:{s}": w for g, row in recipe.weights.items() for s, w in row.items()}
    found |= {f"{g}:rank": ratio for g, ratio in recipe.rank_ratio.items()}
    for number, by_group in recipe.per_source.items():
        found |= {f"{number} {g}:{s}": v for g, row in by_group.items() for s, v in row.items()}
    return found


FULL: dict[str, Any] = {
    "zero_prob": 0.3,
    "outliers": ["none", "clip"],
    "rank_ratio": [0.05, 0.5],
    "per_source": {"density": {"range": [0.2, 0.9]}, "gamma": {"range": [0.0, 0.1]}},
}


@pytest.mark.parametrize("profile", PROFILES)
@settings(max_examples=8)
@given(data=st.data())
def test_every_recipe_of_a_space_maps_back_to_a_point_that_gives_it(
    profile: str, data: st.DataObject
) -> None:
    searched = space(("breadcrumbs", "resm"), places=profile, **FULL)
    recipe = searched.recipe(data.draw(points(searched)))
    point = searched.coordinates(recipe)
    assert list(point) == list(searched.parameters)
    for name, parameter in searched.parameters.items():
        assert point[name] in parameter.options or (
            parameter.low <= float(point[name]) <= parameter.high
        )
    again = searched.recipe(point)
    one, other = numbers(recipe), numbers(again)
    assert one.keys() == other.keys()
    for key in [key for key in one if key.endswith(":rank")]:
        # Ratios on a curve are moved to those that are searched: the nearest curve may miss some.
        steps = math.log(one.pop(key) / other.pop(key)) / math.log(10 ** (1 / 10))
        assert abs(steps) < (1.01 if profile.startswith(("points", "kernel")) else 1e-6)
    # A fit may leave rounding where a number was exactly off: 1e-9 of a range counts as off.
    rounding = 1e-9 * max(
        parameter.high - parameter.low for parameter in searched.parameters.values()
    )
    assert list(one.values()) == pytest.approx(list(other.values()), rel=1e-9, abs=rounding)
    assert all(other[key] == 0.0 for key, value in one.items() if value == 0.0)
    assert (again.method, again.params) == (recipe.method, recipe.params)


@pytest.mark.parametrize("profile", PROFILES)
@settings(max_examples=4)
@given(data=st.data())
def test_a_recipe_that_is_not_validated_is_what_validation_makes_of_it(
    profile: str, data: st.DataObject
) -> None:
    searched = space(("breadcrumbs", "resm"), places=profile, **FULL)
    point = data.draw(points(searched))
    for recipe in (searched.recipe(point), searched.beginning()):
        checked = Recipe.model_validate(recipe.model_dump())
        assert checked == recipe
        assert checked.canonical_json() == recipe.canonical_json()


@pytest.mark.parametrize("profile", ["modules", "layers+kind", "blocks(2)", "global"])
def test_with_a_number_for_each_place_group_the_way_back_is_exact(profile: str) -> None:
    searched = space(places=profile)
    draw = np.random.default_rng(0)
    point = {n: float(draw.uniform(d.low, d.high)) for n, d in searched.parameters.items()}
    ranks = [name for name in point if name.endswith(":rank")]
    point |= dict(zip(ranks, itertools.cycle(np.geomspace(0.02, 0.5, 11).tolist())))
    assert searched.coordinates(searched.recipe(point)) == point


def test_rank_ratios_are_moved_to_the_nearest_of_a_few() -> None:
    searched = space(places="global", rank_ratio=[0.01, 1.0])
    point = dict.fromkeys(searched.parameters, 0.5)

    def ratio(asked: float) -> float:
        return searched.recipe(point | {"all:rank": asked}).rank_ratio["all"]

    found = {ratio(asked) for asked in np.geomspace(0.01, 1.0, 300).tolist()}
    assert sorted(found) == pytest.approx(np.geomspace(0.01, 1.0, 11).tolist())
    assert {0.01, 1.0} < found
    assert ratio(0.12) == pytest.approx(0.1)
    assert ratio(0.13) == pytest.approx(10**-0.8)
    moved = searched.adjusted(searched.beginning(), rank_ratios={"all": 0.12})
    assert moved.rank_ratio["all"] == ratio(0.12)


def test_the_names_and_order_of_parameters() -> None:
    assert list(space(places="global").parameters) == ["all:a", "all:b", "all:rank", "scale"]
    curved = space(("ties", "resm"), places="points(2)+kind", per_source=FULL["per_source"] and {
        "density": {"range": [0.1, 1.0]}
    })  # fmt: skip
    names = list(curved.parameters)
    assert names[:4] == ["outside:a", "outside:b", "point.0.attention:a", "point.0.attention:b"]
    assert names[-4:] == ["density.all:a", "density.all:b", "scale", "method"]
    kernel = space(places="kernel").parameters
    assert kernel["kernel.position:a"] == Parameter(0, 5, integer=True)
    assert kernel["kernel.width:rank"] == Parameter(1, 6, integer=True)


def test_points_are_joined_by_straight_lines_and_ranks_by_lines_of_their_logarithms() -> None:
    searched = space(places="points(2)", rank_ratio=[0.01, 1.0])
    point = dict.fromkeys(searched.parameters, 0.0) | {"scale": 1.0, "point.1:a": 1.0}
    recipe = searched.recipe(point | {"point.0:rank": 0.01, "point.1:rank": 1.0})
    layers = [f"layer.{i}" for i in range(6)]
    assert [recipe.weights[g]["a"] for g in layers] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    steps = [recipe.rank_ratio[g] for g in layers]
    assert steps == pytest.approx([0.01 * 100 ** (i / 5) for i in range(6)])


def test_a_kernel_is_a_triangle_on_a_floor() -> None:
    searched = space(("task_arithmetic",), places="kernel")
    point = dict.fromkeys(searched.parameters, 0.0) | {"scale": 1.0, "kernel.width:b": 1}
    shape = {"peak": 1.0, "floor": 0.2, "position": 3, "width": 2}
    recipe = searched.recipe(point | {f"kernel.{key}:a": v for key, v in shape.items()})
    found = [recipe.weights[f"layer.{i}"]["a"] for i in range(6)]
    assert found == pytest.approx([0.2, 0.2, 0.6, 1.0, 0.6, 0.2])


def test_a_column_has_points_over_the_layers_that_have_it() -> None:
    names = space(places="points(5)+module").parameters
    assert [n for n in names if "in_proj:a" in n] == [f"point.{i}.in_proj:a" for i in range(3)]


def test_an_even_draw_is_exactly_off_with_the_probability_that_was_asked_for() -> None:
    searched = space(("ties",), places="modules", zero_prob=0.25)
    parameter = searched.parameters["norm:a"]
    assert (0.0 - parameter.low) / (parameter.high - parameter.low) == pytest.approx(0.25)
    point = dict.fromkeys(searched.parameters, parameter.low) | {"scale": 1.0, "norm:b": 0.7}
    recipe = searched.recipe(point)
    assert recipe.weights["norm"] == {"a": 0.0, "b": 0.7}
    assert searched.coordinates(recipe)["norm:b"] == 0.7
    assert searched.coordinates(recipe)["norm:a"] == pytest.approx(parameter.low / 2)


def test_a_recipe_of_another_profile_is_projected() -> None:
    wide, fine = space(places="global"), space(places="modules")
    point = {"all:a": 0.4, "all:b": 1.1, "all:rank": 0.5, "scale": 0.9}
    spread = fine.coordinates(wide.recipe(point))
    assert {spread[f"{group}:b"] for group in fine.groups} == {1.1}
    assert wide.coordinates(fine.recipe(spread)) == point
    line = space(places="layers").recipe(
        {n: 0.1 * int(n[6]) if n[:5] == "layer" else 0.5 for n in space(places="layers").parameters}
        | {f"layer.{i}:rank": 0.5 for i in range(6)} | {"scale": 1.0}
    )  # fmt: skip
    straight = space(places="points(2)").coordinates(line)
    assert (straight["point.0:a"], straight["point.1:a"]) == pytest.approx((0.0, 0.5))
    far = fine.recipe(spread | {"norm:a": 1.5})
    assert space(places="modules", weight=[0.0, 1.0]).coordinates(far)["norm:a"] == 1.0


def test_each_method_gets_the_numbers_and_parameters_that_it_has() -> None:
    both = space({"resm": {"kappa": 2.0}, "ties": {"normalize": False}}, places="global", **FULL
                 | {"per_source": {"density": {"range": [0.2, 0.9]}}})  # fmt: skip
    point: dict[str, float | str] = dict.fromkeys(both.parameters, 0.5)
    point |= {"outliers": "clip", "method": "resm"}
    resm, ties = both.recipe(point), both.recipe(point | {"method": "ties"})
    assert resm.params == {"kappa": 2.0, "outliers": "clip", "scale": 0.5}
    assert ties.params == {"normalize": False, "scale": 0.5}
    assert (resm.rank_ratio, resm.per_source) == ({"all": 0.5}, {})
    assert (ties.rank_ratio, ties.per_source) == ({}, {"density": {"all": {"a": 0.5, "b": 0.5}}})
    back = both.coordinates(ties)
    assert (back["method"], back["density.all:a"], back["outliers"]) == ("ties", 0.5, "none")


@pytest.mark.parametrize("profile", ["modules", "points(3)+kind", "blocks(2)"])
def test_weights_are_the_basis_times_the_knots(profile: str) -> None:
    searched = space(("task_arithmetic",), places=profile)
    draw = np.random.default_rng(1)
    point = {n: float(draw.uniform(d.low, d.high)) for n, d in searched.parameters.items()}
    knots = [value for name, value in point.items() if name.endswith(":a")]
    recipe = searched.recipe(point)
    expected = [recipe.weights[group]["a"] for group in searched.groups]
    assert (np.array(searched.basis()) @ knots).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("zero_prob", [0.0, 0.2])
def test_the_knots_of_a_recipe_give_its_weights_back(profile: str, zero_prob: float) -> None:
    searched = space(places=profile, zero_prob=zero_prob)
    basis = np.array(searched.basis())
    knots = np.random.default_rng(0).uniform(0.0, 1.5, (basis.shape[1], 2))
    knots[0] = 0.0
    rows = zip(searched.groups, (basis @ knots).tolist(), strict=True)
    weights = {group: dict(zip("ab", row, strict=True)) for group, row in rows}
    recipe = searched.adjusted(searched.beginning(), weights=weights)
    np.testing.assert_allclose(searched.knots(recipe), knots, atol=1e-9)


def test_knots_of_a_kernel_are_those_of_the_basis_that_come_nearest() -> None:
    """The kernel of this recipe has another position and a smaller width than the basis has."""
    searched = space(places="kernel")
    kernel = {"peak": 1.0, "floor": 0.5, "position": 1, "width": 1}
    point = dict.fromkeys(searched.parameters, 1.0)
    point |= {f"kernel.{name}:a": value for name, value in kernel.items()}
    recipe = searched.recipe(point)
    basis = np.array(searched.basis())
    wanted = np.array([recipe.weights_at(group) for group in searched.groups])

    def miss(knots: Any) -> float:
        return float(np.square(basis @ np.array(knots) - wanted).sum())

    found = np.array(searched.knots(recipe))
    for row, source, change in itertools.product(range(len(found)), (0, 1), (-0.01, 0.01)):
        other = found.copy()
        other[row, source] += change
        assert miss(found) < miss(other)


def test_the_search_begins_at_the_prior() -> None:
    searched = space(places="kernel", prior={"b": 1.2})
    assert searched.start == {"a": 0.6, "b": 1.2}
    back = searched.recipe(searched.coordinates(searched.beginning()))
    assert back.weights["layer.3"] == pytest.approx({"a": 0.6, "b": 1.2})


@pytest.mark.parametrize(
    ("number", "ends", "start"),
    [
        ("density", [0.2, 1.0], 1.0),  # nothing dropped, whatever the default
        ("density", [0.2, 0.7], 0.7),  # as near to that as the range allows
        ("gamma", [0.0, 0.1], 0.0),
        ("epsilon", [0.0, 0.5], 0.15),  # no start of its own: the default
    ],
)
def test_the_search_begins_where_nothing_is_dropped(
    number: str, ends: list[float], start: float
) -> None:
    method = "della" if number == "epsilon" else "breadcrumbs"
    searched = space((method,), per_source={number: {"range": ends}})
    begun = searched.beginning().per_source_at(number, searched.groups[0])
    assert begun == {"a": start, "b": start}


@pytest.mark.parametrize(
    ("methods", "changes", "message"),
    [
        (("ties",), {"per_source": {"densty": {"range": [0, 1]}}}, "densty.*did you mean density"),
        (("iso_c",), {"per_source": {"density": {"range": [0, 1]}}}, "no such number; it has none"),
        (("ties",), {"per_source": {"density": {"range": [0, 2]}}}, r"\[0, 2\].*in \[0, 1\]"),
        (("ties",), {"outliers": ["clip"]}, "ties has no parameter 'outliers'"),
        (("resm",), {"outliers": ["clipp"]}, "outliers.*'clip'.*got 'clipp'"),
        (("linear",), {"zero_prob": 0.1}, "'linear' cannot merge where all weights are 0"),
        (("resm",), {"places": "layers", "rank_places": "modules"}, "finer than space.places"),
        (("slerp",), {"weight": [0.5, 0.5]}, "nothing to search"),
        (("passthrough",), {}, "passthrough, which copies layers of one model: there are no weig"),
    ],
)
def test_what_no_method_can_do_is_refused(
    methods: tuple[str, ...], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        space(methods, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "ties", "rank_ratio": {}}, "'ties', and this search is over resm"),
        ({"params": {"kappa": 2.0}}, "kappa = 2.0, and in this search it is 3.0"),
        ({"params": {"outliers": "favour"}}, "'favour', and space.outliers allows none, clip"),
        ({"sources": (ModelRef(name="c", path="c"),), "weights": {"default": {}}}, "merges c, and"),
        ({"stack": ({"a": (0, 2)},)}, "stacks layers, and a search rewrites a live model of the"),
        ({"tokenizer": Vocabulary()}, "has a vocabulary of its own, and a search rewrites a live"),
    ],
)
def test_a_recipe_that_has_no_place_in_the_space_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    searched = space(places="global", outliers=["none", "clip"])
    own = searched.beginning()
    with pytest.raises(RecipeError, match=message):
        searched.coordinates(own.model_copy(update=changes))
