"""What a Method checks and hands on for every recipe, on a method made for the purpose."""

from dataclasses import replace
from typing import Any

import pytest

from safemerge import ModelRef, Recipe
from safemerge.errors import RecipeError
from safemerge.factors import factorise
from safemerge.methods import METHODS, Selection, Site, Span
from safemerge.methods.common.method import Peers

METHOD = replace(
    METHODS["task_arithmetic"],
    name="pair",
    per_source={"density": Span(default=0.9, low=0.0, high=1.0), "gamma": Span(0.01, 0.0, 0.5)},
    least_sources=2,
    most_sources=2,
)


def recipe(sources: str = "ab", **changes: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "base": ModelRef(name="base", path="base"),
            "sources": [ModelRef(name=name, path=name) for name in sources],
            "method": "pair",
            "weights": {"default": {}},
        }
        | changes
    )


def test_a_selection_has_every_number_of_every_source_in_order() -> None:
    one = recipe(
        per_source={"density": {"default": {"b": 0.5}, "layer.1": {"a": 0.25, "b": 0.75}}},
        rank_ratio={"layer.1": 0.5},
    )
    METHOD.check(one)
    assert METHOD.selection(one, "layer.0") == Selection(
        None, None, {"density": (0.9, 0.5), "gamma": (0.01, 0.01)}
    )
    assert METHOD.selection(one, "layer.1", Peers(0.2, 3.0)) == Selection(
        0.5, 0.2, {"density": (0.25, 0.75), "gamma": (0.01, 0.01)}, 3.0
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"per_source": {"density": {"all": {"b": 1.5}}}},
            r"method 'pair': density of source 'b' at place group 'all' is 1.5; "
            r"the range is \[0, 1\]",
        ),
        ({"per_source": {"densty": {}}}, r"no per-source number 'densty'; did you mean density"),
        ({"sources": "a"}, r"merges exactly 2 sources, but the recipe names 1 \(a\)"),
        ({"sources": "abc"}, r"exactly 2 sources, but the recipe names 3 \(a, b, c\)"),
        ({"params": {"scale": -11}}, r"scale: .*greater than or equal to -10, got -11"),
    ],
)
def test_what_does_not_fit_the_method_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        METHOD.check(recipe(**changes))


def test_too_few_sources_and_numbers_that_a_method_lacks_are_refused() -> None:
    method = replace(METHOD, most_sources=None, per_source={})
    with pytest.raises(RecipeError, match="merges at least 2 sources, but the recipe names 1"):
        method.check(recipe("a"))
    with pytest.raises(RecipeError, match="no per-source number 'density'; it has none"):
        method.check(recipe(per_source={"density": {}}))


def test_seeds_hang_on_seed_tensor_and_source_and_on_nothing_else() -> None:
    def draw(seed: int, tensor: str, source: str, sources: tuple[str, ...] = ("a", "b")) -> int:
        return Site(tensor, sources, factorise).seed(seed, source)

    assert draw(0, "x", "a") == draw(0, "x", "a", ("b", "a", "c"))
    assert len({draw(0, "x", "a"), draw(1, "x", "a"), draw(0, "y", "a"), draw(0, "x", "b")}) == 4
    assert draw(0, "x", "a") == 3618665149212954494  # on every machine
