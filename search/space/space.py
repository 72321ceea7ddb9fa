"""The search space: named parameters, to a recipe and back.

One parameter for each (place group, source) weight, `layer.0.q_proj:medic`; one for the rank ratio
of each group that holds a matrix, `layer.0.q_proj:rank` (spectral methods only); one for each
per-source number, `density.all:medic`; `scale`; and the choices `outliers` and `method`. Profiles
over depth (`knots.py`) have fewer, such as `kernel.peak:medic`. Parameters never change during a
study: multivariate TPE cannot take variable ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from safemerge.errors import ConfigError, RecipeError
from safemerge.methods import get_method
from safemerge.names import Role, depth_order, groups
from safemerge.recipe import ParamValue, Recipe
from search.config import SpaceConfig
from search.space.checks import check_choices, check_recipe, outliers, span
from search.space.depth_curves import Knots, Matrix, expand, knots
from search.space.parameter import Parameter, Point

if TYPE_CHECKING:
    import optuna

_START = 0.6  # of every weight; where uniform merges begin to carry every source's behaviour
# How many rank ratios a range has: what a method makes of one is kept for later trials.
RANK_RATIOS = 11

BySource = Mapping[str, Sequence[Knots]]
"""The knots of one quantity of every source."""


class Space:
    """Parameters of a search.

    Attributes:
        template: recipe whose inputs, places and dtype every trial shares.
        ranges: as configured.
        groups: place groups of recipes, by depth.
        ranked: those whose rank ratio is searched; empty where no method has one.
        parameters: `{name: parameter}`, in canonical order.
    """

    def __init__(
        self,
        template: Recipe,
        methods: Mapping[str, Mapping[str, ParamValue]],
        ranges: SpaceConfig,
        tensors: Mapping[str, Role],
    ) -> None:
        """Lay out the parameters.

        Args:
            template: its places are `recipe_places(ranges.places)`.
            methods: `{method: fixed parameters}`, at least one.
            ranges: what may change.
            tensors: `{name: role}` of every merged tensor.

        Raises:
            ConfigError: what no method has, a range beyond the method's, a profile finer than the
                places, or nothing to search.
        """
        self.template, self.ranges = template, ranges
        self._params = {name: dict(params) for name, params in methods.items()}
        self._methods = {name: get_method(name) for name in methods}
        self._sources = tuple(source.name for source in template.sources)
        self._owners = groups(tensors, template.places)
        self.groups = tuple(sorted(set(self._owners.values()), key=depth_order))
        spectral = any(method.spectral for method in self._methods.values())
        self._matrices = [n for n, role in tensors.items() if spectral and role == "matrix"]
        ranked = {self._owners[name] for name in self._matrices}
        self.ranked = tuple(group for group in self.groups if group in ranked)
        check_choices(ranges, self._methods, self._params)
        self._spans = {n: span(n, ranges, self._methods) for n in ranges.per_source}

        lay_out = partial(knots, tensors=tuple(tensors), places=template.places)
        every = frozenset(self.groups)
        low, high = ranges.weight
        # A number drawn evenly from [-length, high] is below 0 with the probability `off`.
        tail = high * ranges.zero_prob / (1.0 - ranges.zero_prob)
        weight = Parameter(low - tail, high, zero_tail=tail > 0.0)
        self._weights: BySource = {
            source: lay_out(ranges.places, f"{{}}:{source}", weight, every)
            for source in self._sources
        }
        self._rank = Parameter(*ranges.rank_ratio, log=True, levels=RANK_RATIOS)
        rank_places = ranges.rank_places or ranges.places
        self._ranks = lay_out(rank_places, "{}:rank", self._rank, frozenset(ranked))
        self._numbers: dict[str, BySource] = {
            number: {
                source: lay_out(own.places, f"{number}.{{}}:{source}", Parameter(*own.range), every)
                for source in self._sources
            }
            for number, own in ranges.per_source.items()
        }
        self.parameters = self._parameters()
        if all(parameter.fixed for parameter in self.parameters.values()):
            raise ConfigError(
                "the space has nothing to search: every range in [space] is a single value; give "
                "one two ends, such as weight = [0.0, 1.5], or merge once with `safemerge merge`"
            )

    def _parameters(self) -> dict[str, Parameter]:
        laid_out: dict[str, Parameter] = {}
        for by_source in (self._weights, {"": self._ranks}, *self._numbers.values()):
            laid_out.update(_side_by_side(by_source.values()))
        if any("scale" in method.params.model_fields for method in self._methods.values()):
            laid_out["scale"] = Parameter(*self.ranges.scale)
        if self.ranges.outliers:
            laid_out["outliers"] = Parameter(options=self.ranges.outliers)
        if len(self._methods) > 1:
            laid_out["method"] = Parameter(options=tuple(self._methods))
        return laid_out

    def suggest(self, trial: optuna.Trial) -> Recipe:
        """Ask Optuna for every parameter."""
        return self.recipe({name: p.suggest(trial, name) for name, p in self.parameters.items()})

    def recipe(self, point: Point) -> Recipe:
        """The recipe at a point; every parameter must be given."""
        name = str(point.get("method", next(iter(self._methods))))
        method = self._methods[name]
        return self._of_template(
            name,
            params={key: point[key] for key in ("scale", "outliers") if key in point},
            weights=self._expanded(self._weights, point),
            rank_ratio=expand(self._ranks, point) if method.spectral else {},
            per_source={
                number: self._expanded(by_source, point)
                for number, by_source in self._numbers.items()
                if number in method.per_source
            },
        )

    def beginning(self) -> Recipe:
        """Where a search begins: `start`, the first method and options, the middle rank ratio on a
        log scale, and other numbers at their `Span.start`.
        """
        name = next(iter(self._methods))
        method = self._methods[name]
        params: dict[str, ParamValue] = {"scale": self._scale(1.0)}
        if self.ranges.outliers:
            params["outliers"] = self.ranges.outliers[0]
        low, high = self.ranges.rank_ratio
        ratio = self._rank.nearest((low * high) ** 0.5)
        per_source = {}
        for number, own in self.ranges.per_source.items():
            if number in method.per_source:
                span = self._spans[number]
                start = span.default if span.start is None else span.start
                by_source = dict.fromkeys(self._sources, Parameter(*own.range).nearest(start))
                per_source[number] = dict.fromkeys(self.groups, by_source)
        return self._of_template(
            name,
            params=params,
            weights=dict.fromkeys(self.groups, self.start),
            rank_ratio=dict.fromkeys(self.ranked, ratio) if method.spectral else {},
            per_source=per_source,
        )

    def _of_template(
        self, method: str, *, params: Mapping[str, ParamValue], **numbers: object
    ) -> Recipe:
        """The template with a method, those of the parameters that it has, and other numbers."""
        known = self._methods[method].params.model_fields
        own = {key: value for key, value in params.items() if key in known}
        params = {**self._params[method], **own}
        return self.template.model_copy(update={"method": method, "params": params, **numbers})

    @property
    def start(self) -> dict[str, float]:
        """`{source: weight}` where a search begins: the prior, else 0.6, in the range."""
        low, high = self.ranges.weight
        plain = min(max(_START, low), high)
        return {source: self.ranges.prior.get(source, plain) for source in self._sources}

    def adjusted(
        self,
        recipe: Recipe,
        *,
        weights: Mapping[str, Mapping[str, float]] | None = None,
        rank_ratios: Mapping[str, float] | None = None,
    ) -> Recipe:
        """A recipe of this space with other weights or rank ratios; None leaves them.

        Args:
            recipe: as `beginning` or `recipe` returns them.
            weights: `{group: {source: weight}}` for all groups, in the range.
            rank_ratios: `{group: ratio}` for all groups that have one, each moved to the nearest
                one that is searched.
        """
        changes: dict[str, object] = {} if weights is None else {"weights": weights}
        if rank_ratios is not None:
            changes["rank_ratio"] = {g: self._rank.nearest(r) for g, r in rank_ratios.items()}
        return recipe.model_copy(update=changes)

    def coordinates(self, recipe: Recipe) -> dict[str, float | str]:
        """The point of a recipe, so that good recipes can be enqueued.

        Place groups of another profile are averaged, knots are fitted by least squares, and all is
        clamped into the ranges. A group without a rank ratio is placed at TSV-M's own share, and
        what the recipe's method does not have at its default.

        Raises:
            RecipeError: other sources, or a method, parameter or option that is not searched here.
        """
        sources = tuple(source.name for source in recipe.sources)
        if sources != self._sources:
            raise RecipeError(
                f"the recipe merges {', '.join(sources)}, and this search "
                f"{', '.join(self._sources)}; only a recipe of the same sources has a place in it"
            )
        check_recipe(recipe, self.ranges, self._methods, self._params)
        theirs = groups(self._owners, recipe.places)
        point: dict[str, float | str] = {}

        def place(
            blocks: Sequence[Knots], tensors: Iterable[str], value_at: Callable[[str], float]
        ) -> None:
            """Fit to the mean, over the tensors of each group, of a recipe's values there."""
            values: dict[str, list[float]] = {}
            for tensor in tensors:
                values.setdefault(self._owners[tensor], []).append(value_at(theirs[tensor]))
            means = {group: _mean(of_tensors) for group, of_tensors in values.items()}
            for block in blocks:
                point.update(block.fit(means))

        for i, blocks in enumerate(self._weights.values()):
            weights = {group: recipe.weights_at(group)[i] for group in set(theirs.values())}
            place(blocks, self._owners, weights.__getitem__)
        share = 1.0 / len(self._sources)
        place(self._ranks, self._matrices, lambda group: recipe.rank_ratio_at(group) or share)
        for number, by_source in self._numbers.items():
            default = self._spans[number].default
            for source, blocks in by_source.items():
                given = {
                    group: recipe.per_source_at(number, group).get(source, default)
                    for group in set(theirs.values())
                }
                place(blocks, self._owners, given.__getitem__)
        point["scale"] = self._scale(float(recipe.params.get("scale", 1.0)))
        if self.ranges.outliers:
            point["outliers"] = outliers(recipe, self.ranges, self._methods)
        point["method"] = recipe.method
        return {name: point[name] for name in self.parameters}

    def knots(self, recipe: Recipe) -> Matrix:
        """Least-squares knots (n_knots, n_sources) of a recipe's weights in `basis`, clamped."""
        weights = np.array([recipe.weights_at(group) for group in self.groups])
        fitted, *_ = np.linalg.lstsq(self.basis(), weights, rcond=None)
        clamped: Matrix = np.clip(fitted, *self.ranges.weight)
        return clamped

    def basis(self) -> Matrix:
        """(n_groups, n_knots), whose product with the knots of one source is its weights.

        Of kernels it is the basis at the middle position and the full width.
        """
        blocks = next(iter(self._weights.values()))
        basis = np.zeros((len(self.groups), sum(len(block.names) for block in blocks)))
        first = 0
        for block in blocks:
            rows = [self.groups.index(group) for group in block.groups]
            basis[rows, first : first + len(block.names)] = block.middle_basis()
            first += len(block.names)
        return basis

    def _expanded(self, by_source: BySource, point: Point) -> dict[str, dict[str, float]]:
        """`{group: {source: value}}` at a point."""
        values = {source: expand(blocks, point) for source, blocks in by_source.items()}
        return {
            group: {source: values[source][group] for source in values} for group in self.groups
        }

    def _scale(self, value: float) -> float:
        return Parameter(*self.ranges.scale).nearest(value)


def _side_by_side(quantities: Iterable[Sequence[Knots]]) -> dict[str, Parameter]:
    """Parameters of the same quantity of several sources: knot by knot, then source by source."""
    each = [[kv for block in blocks for kv in block.parameters.items()] for blocks in quantities]
    return dict(chain.from_iterable(zip(*each, strict=True)))


def _mean(values: list[float]) -> float:
    """The mean; of equal values that value, to the last bit."""
    return values[0] if values.count(values[0]) == len(values) else fmean(values)
