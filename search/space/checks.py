"""What a search space refuses: what no method of it has, and recipes that no point is near."""

from __future__ import annotations

from collections.abc import Mapping

from safemerge.errors import ConfigError, RecipeError, near_names
from safemerge.methods import Method, Span
from safemerge.recipe import ParamValue, Recipe, Vocabulary
from search.config import SpaceConfig

Methods = Mapping[str, Method]
FixedParams = Mapping[str, Mapping[str, ParamValue]]


def span(number: str, ranges: SpaceConfig, methods: Methods) -> Span:
    """Range and default of a per-source number, which a method has and takes."""
    spans = {
        name: method.per_source[number]
        for name, method in methods.items()
        if number in method.per_source
    }
    if not spans:
        known = {key for method in methods.values() for key in method.per_source}
        hint = near_names(number, known) if known else "it has none"
        raise ConfigError(
            f"space.per_source.{number}: merge.method = {', '.join(methods)} has no such number; "
            f"{hint}"
        )
    low, high = ranges.per_source[number].range
    for name, its in spans.items():
        if not its.low <= low <= high <= its.high:
            raise ConfigError(
                f"space.per_source.{number}.range is [{low:g}, {high:g}], and method {name!r} "
                f"takes {number} in [{its.low:g}, {its.high:g}]"
            )
    return next(iter(spans.values()))


def check_choices(ranges: SpaceConfig, methods: Methods, params: FixedParams) -> None:
    """Refuse `off` and `outliers` where no method can have them, and passthrough."""
    if "passthrough" in methods:
        raise ConfigError(
            "merge.method is passthrough, which copies layers of one model: there are no weights "
            "to search; merge with `safemerge merge`, and search with the result as a source"
        )
    for name, method in methods.items():
        if ranges.zero_prob and not method.zero_is_base:
            raise ConfigError(
                f"space.zero_prob is {ranges.zero_prob}, and method {name!r} cannot merge where "
                "all weights are 0; set zero_prob to 0, or choose another method"
            )
    having = _having_outliers(methods)
    if ranges.outliers and not having:
        raise ConfigError(
            "space.outliers is given, and merge.method = "
            f"{', '.join(methods)} has no parameter 'outliers'; remove it"
        )
    for name in having:
        for option in ranges.outliers:
            methods[name].parse({**params[name], "outliers": option})


def check_recipe(
    recipe: Recipe, ranges: SpaceConfig, methods: Methods, params: FixedParams
) -> None:
    """Refuse a recipe whose method, or a parameter that is not searched, is not of the space."""
    if recipe.method not in methods:
        raise RecipeError(
            f"the recipe's method is {recipe.method!r}, and this search is over "
            f"{', '.join(methods)}; add it to merge.method"
        )
    if recipe.stack or isinstance(recipe.tokenizer, Vocabulary):
        what = "stacks layers" if recipe.stack else "has a vocabulary of its own"
        raise RecipeError(
            f"the recipe {what}, and a search rewrites a live model of the base's shapes; merge it "
            "first (`safemerge merge`), and search with the result as a source"
        )
    method = methods[recipe.method]
    searched = {"scale", "outliers"} if ranges.outliers else {"scale"}
    has = method.parse(recipe.params).model_dump(exclude=searched)
    fixed = method.parse(params[recipe.method]).model_dump(exclude=searched)
    for key, value in fixed.items():
        if has[key] != value:
            raise RecipeError(
                f"the recipe has {key} = {has[key]!r}, and in this search it is {value!r}; "
                "set it in merge.params"
            )


def outliers(recipe: Recipe, ranges: SpaceConfig, methods: Methods) -> str:
    """The `outliers` of a recipe, one of the space's; the first where its method has none."""
    if recipe.method not in _having_outliers(methods):
        return ranges.outliers[0]
    option: str = methods[recipe.method].parse(recipe.params).model_dump()["outliers"]
    if option not in ranges.outliers:
        raise RecipeError(
            f"the recipe has outliers = {option!r}, and space.outliers allows "
            f"{', '.join(ranges.outliers)}; add it there"
        )
    return option


def _having_outliers(methods: Methods) -> list[str]:
    return [name for name, method in methods.items() if "outliers" in method.params.model_fields]
