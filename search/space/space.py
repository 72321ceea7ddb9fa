"""The search space: dimensions with names and ranges, to a recipe and back.

One dimension for each (place group, source) weight, `layer.0.q_proj:medic`; one for the rank ratio
of each group that holds a matrix, `layer.0.q_proj:rank` (log scale, spectral methods only); one for
each per-source number that is searched, `density.all:medic`; `scale`; and the choices `outliers`
and `method`, where there are any. Profiles over depth (`profiles.py`) have fewer:
`point.0.q_proj:medic`, `kernel.peak:medic`. Dimensions never change during a study: multivariate
TPE cannot take variable ones, so what the chosen method does not read is drawn and not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from safemerge.errors import ConfigError, RecipeError, near_names
from safemerge.methods import Span, get_method
from safemerge.names import Role, depth_order, groups
from safemerge.recipe import ParamValue, Recipe
from search.config import SpaceConfig
from search.config.profiles import columns
from search.space.dimensions import Dimension, Point, Quantity

if TYPE_CHECKING:
    import optuna

_MATRIX: Role = "matrix"
_START = 0.6  # of every weight; where uniform merges begin to carry every source's behaviour
# How many rank ratios a range has. What a spectral method makes of one is kept for the trials that
# come back to it, which are nearly all once each place has been at each ratio.
RANK_RATIOS = 11
_SEARCHED = {"method", "params", "weights", "rank_ratio", "per_source"}  # of a recipe's fields


class Space:
    """Dimensions of a search.

    Attributes:
        template: recipe whose inputs, places and dtype every trial shares.
        ranges: as configured.
        groups: place groups of recipes, by depth.
        ranked: those whose rank ratio is searched; empty where no method has one.
        dimensions: `{name: dimension}`, in canonical order.
    """

    def __init__(
        self,
        template: Recipe,
        methods: Mapping[str, Mapping[str, ParamValue]],
        ranges: SpaceConfig,
        tensors: Mapping[str, Role],
    ) -> None:
        """Lay out the dimensions.

        Args:
            template: its places are `recipe_places(ranges.places)`.
            methods: `{method: fixed parameters}`, at least one.
            ranges: what may change.
            tensors: `{name: role}` of every merged tensor.

        Raises:
            ConfigError: a number or parameter that no method has, a range beyond the method's, a
                profile finer than the places, or nothing to search.
        """
        self.template, self.ranges = template, ranges
        self._params = {name: dict(params) for name, params in methods.items()}
        self._methods = {name: get_method(name) for name in methods}
        self._sources = tuple(source.name for source in template.sources)
        self._owners = groups(tensors, template.places)
        self.groups = tuple(sorted(set(self._owners.values()), key=depth_order))
        spectral = any(method.spectral for method in self._methods.values())
        self._matrices = frozenset(n for n, role in tensors.items() if spectral and role == _MATRIX)
        ranked = {self._owners[name] for name in self._matrices}
        self.ranked = tuple(group for group in self.groups if group in ranked)
        self._check_parameters()
        self._spans = {number: self._span(number) for number in ranges.per_source}
        self._lay_out(tuple(tensors))
        self.dimensions = self._dimensions()
        if all(dimension.fixed for dimension in self.dimensions.values()):
            raise ConfigError(
                "the space has nothing to search: every range in [space] is a single value; give "
                "one two ends, such as weight = [0.0, 1.5], or merge once with `safemerge merge`"
            )

    def _lay_out(self, tensors: tuple[str, ...]) -> None:
        ranges, places = self.ranges, self.template.places
        every, ranked = frozenset(self.groups), frozenset(self.ranked)
        weights = columns(ranges.places, places, tensors, every)
        low, high = ranges.weight
        # A number drawn evenly from [-length, high] is below 0 with the probability `off`.
        off = high * ranges.off / (1.0 - ranges.off)
        self._weights = {
            source: Quantity(weights, f"{{}}:{source}", low, high, off=off)
            for source in self._sources
        }
        ranks = columns(ranges.rank_places or ranges.places, places, tensors, ranked)
        low, high = ranges.rank_ratio
        self._ranks = Quantity(ranks, "{}:rank", low, high, log=True, values=RANK_RATIOS)
        self._numbers = {
            number: {
                source: Quantity(
                    columns(own.places, places, tensors, every),
                    f"{number}.{{}}:{source}",
                    *own.range,
                )
                for source in self._sources
            }
            for number, own in ranges.per_source.items()
        }

    def _dimensions(self) -> dict[str, Dimension]:
        found = _side_by_side(self._weights.values())
        found.update(self._ranks.dimensions())
        for by_source in self._numbers.values():
            found.update(_side_by_side(by_source.values()))
        if self._having("scale"):
            found["scale"] = Dimension(*self.ranges.scale)
        if self.ranges.outliers:
            found["outliers"] = Dimension(options=self.ranges.outliers)
        if len(self._methods) > 1:
            found["method"] = Dimension(options=tuple(self._methods))
        return found

    def suggest(self, trial: optuna.Trial) -> Recipe:
        """Ask Optuna for every dimension."""
        return self.recipe({name: d.suggest(trial, name) for name, d in self.dimensions.items()})

    def recipe(self, point: Point) -> Recipe:
        """The recipe at a point; every dimension must be given."""
        name = str(point.get("method", next(iter(self._methods))))
        method = self._methods[name]
        searched = point.keys() & {"scale", "outliers"} & method.params.model_fields.keys()
        # Built anew, not copied: pydantic checks ranges only where it validates.
        return Recipe(
            **self.template.model_dump(exclude=_SEARCHED),
            method=name,
            params={**self._params[name], **{key: point[key] for key in searched}},
            weights=self._expanded(self._weights, point),
            rank_ratio=self._ranks.expand(point) if method.spectral else {},
            per_source={
                number: self._expanded(by_source, point)
                for number, by_source in self._numbers.items()
                if number in method.per_source
            },
        )

    def coordinates(self, recipe: Recipe) -> dict[str, float | str]:
        """The point of a recipe, so that good recipes can be enqueued.

        Numbers are projected: place groups of another profile are averaged, curves over depth are
        fitted by least squares, and all is clamped into the ranges. A group without a rank ratio is
        placed at TSV-M's own share, 1 / number of sources, and what the recipe's method does not
        have at its default.

        Raises:
            RecipeError: where the recipe has other sources, or a method, parameter or option that
                is not searched here: no point is near it.
        """
        self._check_recipe(recipe)
        owners = groups(self._owners, recipe.places)
        point: dict[str, float | str] = {}

        def place(quantity: Quantity, value_at: Callable[[str], float]) -> None:
            found: dict[str, list[float]] = {}
            for tensor in self._matrices if quantity is self._ranks else self._owners:
                found.setdefault(self._owners[tensor], []).append(value_at(owners[tensor]))
            point.update(quantity.fit({group: _mean(values) for group, values in found.items()}))

        for i, quantity in enumerate(self._weights.values()):
            weights = {group: recipe.weights_at(group)[i] for group in set(owners.values())}
            place(quantity, weights.__getitem__)
        share = 1.0 / len(self._sources)
        place(self._ranks, lambda group: recipe.rank_ratio_at(group) or share)
        for number, by_source in self._numbers.items():
            default = self._spans[number].default
            for source, quantity in by_source.items():
                given = {
                    group: recipe.per_source_at(number, group).get(source, default)
                    for group in set(owners.values())
                }
                place(quantity, given.__getitem__)
        point["scale"] = self._scale(float(recipe.params.get("scale", 1.0)))
        point["outliers"] = self._outliers(recipe)
        point["method"] = recipe.method
        return {name: point[name] for name in self.dimensions}

    @property
    def start(self) -> dict[str, float]:
        """`{source: weight}` where a search begins: the prior, else 0.6, in the range."""
        low, high = self.ranges.weight
        plain = min(max(_START, low), high)
        return {source: self.ranges.prior.get(source, plain) for source in self._sources}

    def beginning(self) -> Recipe:
        """Where a search begins: of the first method, with the first options.

        Its weights are `start`, its rank ratios in the middle of their range on a log scale, its
        other numbers where they begin (`Span.start`).
        """
        name = next(iter(self._methods))
        method = self._methods[name]
        values: dict[str, ParamValue] = {"scale": self._scale(1.0)}
        if self.ranges.outliers:
            values["outliers"] = self.ranges.outliers[0]
        known = method.params.model_fields
        low, high = self.ranges.rank_ratio
        ratio = self._ranks.nearest((low * high) ** 0.5)
        per_source = {}
        for number, own in self.ranges.per_source.items():
            if number in method.per_source:
                span = self._spans[number]
                start = span.default if span.start is None else span.start
                value = min(max(start, own.range[0]), own.range[1])
                by_source = dict.fromkeys(self._sources, value)
                per_source[number] = dict.fromkeys(self.groups, by_source)
        return Recipe(
            **self.template.model_dump(exclude=_SEARCHED),
            method=name,
            params={**self._params[name], **{k: v for k, v in values.items() if k in known}},
            weights=dict.fromkeys(self.groups, self.start),
            rank_ratio=dict.fromkeys(self.ranked, ratio) if method.spectral else {},
            per_source=per_source,
        )

    def adjusted(
        self,
        recipe: Recipe,
        *,
        weights: Mapping[str, Mapping[str, float]] | None = None,
        rank_ratios: Mapping[str, float] | None = None,
    ) -> Recipe:
        """A recipe of this space with other weights or rank ratios.

        Args:
            recipe: as `beginning` or `recipe` returns them.
            weights: `{group: {source: weight}}` for all groups; None leaves them.
            rank_ratios: `{group: ratio}` for all groups that have one, each moved to the nearest
                one that is searched; None leaves them.
        """
        changes: dict[str, object] = {}
        if weights is not None:
            changes["weights"] = {group: dict(by_source) for group, by_source in weights.items()}
        if rank_ratios is not None:
            changes["rank_ratio"] = {g: self._ranks.nearest(r) for g, r in rank_ratios.items()}
        # Built anew, as in `recipe`.
        return Recipe(**{**recipe.model_dump(), **changes})

    def knots(self, recipe: Recipe) -> list[list[float]]:
        """The weights' knots, (n_knots, n_sources), whose product with `basis` is nearest to a
        recipe of this space, in least squares and then in the range.
        """
        weights = np.array([recipe.weights_at(group) for group in self.groups])
        found, *_ = np.linalg.lstsq(np.array(self.basis()), weights, rcond=None)
        knots: list[list[float]] = np.clip(found, *self.ranges.weight).tolist()
        return knots

    def basis(self) -> tuple[tuple[float, ...], ...]:
        """Shares of the weights' knots in every place group, (n_groups, n_knots).

        The weights of one source are basis @ knots, at the middle position and full width of
        kernels; of place groups that have numbers of their own it is the identity.
        """
        parts = next(iter(self._weights.values())).columns
        n_knots = sum(len(column.knots) for column in parts)
        rows: dict[str, tuple[float, ...]] = {}
        first = 0
        for column in parts:
            last = first + len(column.knots)
            for group, shares in zip(column.groups, column.basis().tolist(), strict=True):
                rows[group] = (*[0.0] * first, *shares, *[0.0] * (n_knots - last))
            first = last
        return tuple(rows[group] for group in self.groups)

    def _expanded(
        self, by_source: Mapping[str, Quantity], point: Point
    ) -> dict[str, dict[str, float]]:
        """`{group: {source: value}}` at a point."""
        values = {source: quantity.expand(point) for source, quantity in by_source.items()}
        return {
            group: {source: values[source][group] for source in values} for group in self.groups
        }

    def _scale(self, value: float) -> float:
        low, high = self.ranges.scale
        return min(max(value, low), high)

    def _having(self, parameter: str) -> list[str]:
        """The methods with a parameter."""
        return [n for n, method in self._methods.items() if parameter in method.params.model_fields]

    def _span(self, number: str) -> Span:
        """Range and default of a per-source number; a configured range must lie within."""
        spans = {
            name: method.per_source[number]
            for name, method in self._methods.items()
            if number in method.per_source
        }
        if not spans:
            known = {key for method in self._methods.values() for key in method.per_source}
            of = ", ".join(self._methods)
            hint = near_names(number, known) if known else "it has none"
            raise ConfigError(
                f"space.per_source.{number}: merge.method = {of} has no such number; {hint}"
            )
        low, high = self.ranges.per_source[number].range
        for name, span in spans.items():
            if not span.low <= low <= high <= span.high:
                raise ConfigError(
                    f"space.per_source.{number}.range is [{low:g}, {high:g}], and method {name!r} "
                    f"takes {number} in [{span.low:g}, {span.high:g}]"
                )
        return next(iter(spans.values()))

    def _check_parameters(self) -> None:
        for name, method in self._methods.items():
            if self.ranges.off and not method.zero_is_base:
                raise ConfigError(
                    f"space.off is {self.ranges.off}, and method {name!r} cannot merge where all "
                    "weights are 0; set off to 0, or choose another method"
                )
        having = self._having("outliers")
        if self.ranges.outliers and not having:
            raise ConfigError(
                "space.outliers is given, and merge.method = "
                f"{', '.join(self._methods)} has no parameter 'outliers'; remove it"
            )
        for name in having:
            for option in self.ranges.outliers:
                self._methods[name].parse({**self._params[name], "outliers": option})

    def _check_recipe(self, recipe: Recipe) -> None:
        sources = tuple(source.name for source in recipe.sources)
        if sources != self._sources:
            raise RecipeError(
                f"the recipe merges {', '.join(sources)}, and this search "
                f"{', '.join(self._sources)}; only a recipe of the same sources has a place in it"
            )
        if recipe.method not in self._methods:
            raise RecipeError(
                f"the recipe's method is {recipe.method!r}, and this search is over "
                f"{', '.join(self._methods)}; add it to merge.method"
            )
        method = self._methods[recipe.method]
        searched = {"scale", "outliers"} if self.ranges.outliers else {"scale"}
        has = method.parse(recipe.params).model_dump(exclude=searched)
        fixed = method.parse(self._params[recipe.method]).model_dump(exclude=searched)
        for key, value in fixed.items():
            if has[key] != value:
                raise RecipeError(
                    f"the recipe has {key} = {has[key]!r}, and in this search it is {value!r}; "
                    "set it in merge.params"
                )

    def _outliers(self, recipe: Recipe) -> str:
        """The option of a recipe; the first one where its method has none."""
        options = self.ranges.outliers
        if not options or recipe.method not in self._having("outliers"):
            return options[0] if options else ""
        option: str = self._methods[recipe.method].parse(recipe.params).model_dump()["outliers"]
        if option not in options:
            raise RecipeError(
                f"the recipe has outliers = {option!r}, and space.outliers allows "
                f"{', '.join(options)}; add it there"
            )
        return option


def _side_by_side(quantities: Iterable[Quantity]) -> dict[str, Dimension]:
    """Dimensions of the same quantity of several sources: knot by knot, then source by source."""
    rows = zip(*(quantity.dimensions().items() for quantity in quantities), strict=True)
    return dict(chain.from_iterable(rows))


def _mean(values: list[float]) -> float:
    """The mean; of equal values that value, to the last bit."""
    return values[0] if values.count(values[0]) == len(values) else fmean(values)
