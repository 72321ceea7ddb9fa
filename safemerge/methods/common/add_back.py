"""Alignment added back after a merge: theta = merge of the other sources + a E.

E is a part of the pair's delta, aligned - unaligned; which part is the stage's matter. A source of
the pair takes no part in the merge itself. The number a is its weight (the aligned one's, where
both are sources), so that a search varies it at every place, and a warm start has its gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from safemerge.errors import RecipeError, near_names
from safemerge.low_rank import Delta, Deltas, LowRank, dense
from safemerge.methods.common.method import Measured, Method, Selection, Site, Span, State
from safemerge.methods.common.params import Params
from safemerge.methods.common.ranks import bytes_held
from safemerge.methods.common.stage import Stage
from safemerge.recipe import Recipe


class PairParams(Params):
    """`aligned` and `unaligned` name a source, or the recipe's base: which `unaligned` is where it
    is left out.
    """

    aligned: str = Field(examples=["a"])
    unaligned: str | None = None
    least_others: ClassVar[int] = 1

    def check_against(self, recipe: Recipe) -> None:
        super().check_against(recipe)
        known = [recipe.base.name, *(source.name for source in recipe.sources)]
        pair = (self.aligned, self.unaligned or recipe.base.name)
        for key, name in zip(("aligned", "unaligned"), pair, strict=True):
            if name not in known:
                raise RecipeError(
                    f"method {recipe.method!r}: {key} is {name!r}, which is neither a source of "
                    f"the recipe nor its base; {near_names(name, known)}"
                )
        if pair[0] == pair[1]:
            raise RecipeError(
                f"method {recipe.method!r}: aligned and unaligned are both {pair[0]!r}; their "
                "difference is what is added back, so name two models"
            )
        others = [name for name in known[1:] if name not in pair]
        if len(others) < self.least_others:
            raise RecipeError(
                f"method {recipe.method!r} merges at least {self.least_others} sources beside the "
                f"pair {pair[0]!r} and {pair[1]!r}, and the recipe names {len(others)}; add more"
            )


@dataclass(frozen=True, slots=True)
class AlignmentPair:
    """Where a pair lies among the sources; None is the base."""

    aligned: int | None
    unaligned: int | None

    @classmethod
    def of(cls, params: PairParams, sources: Sequence[str]) -> AlignmentPair:
        places = {name: i for i, name in enumerate(sources)}
        return cls(places.get(params.aligned), places.get(params.unaligned or ""))

    def others(self, n_sources: int) -> list[int]:
        """The sources that are merged."""
        return [i for i in range(n_sources) if i not in (self.aligned, self.unaligned)]

    def delta(self, deltas: Deltas) -> Delta:
        """aligned - unaligned."""
        sides = ((1.0, self.aligned), (-1.0, self.unaligned))
        if isinstance(deltas, Tensor):
            zero = torch.zeros_like(deltas[0])
            return sum((sign * deltas[i] for sign, i in sides if i is not None), start=zero)
        parts = [(sign, deltas[i]) for sign, i in sides if i is not None]
        left = torch.cat([sign * part.b for sign, part in parts], dim=1)
        return LowRank(left, torch.cat([part.a for _, part in parts]))


Part = Callable[[Delta, Any, Site], State]
"""(aligned - unaligned, params, site) -> E: `added`, of its shape; or `added_left` (out, k) and
`added_right` (in, k), whose product it is."""


def pair_stage(
    name: str,
    params: type[PairParams],
    *,
    matrix: Part,
    other: Part,
    key: Callable[[Any], tuple[object, ...]],
    cut: Callable[[State, float], State] | None = None,
    number: tuple[str, Span] | None = None,
    seeded: bool = False,
) -> Stage:
    """A stage that adds a part of a pair's delta.

    Args:
        name: key in STAGES.
        params: model of its parameters.
        matrix: the part of a matrix.
        other: that of other tensors.
        key: what of the parameters both read.
        cut: (state of `matrix`, number) -> state; where given, that of the source whose weight is a
            cuts the part.
        number: name and span of that number.
        seeded: draws random numbers.
    """

    def around(method: Method) -> Method:
        if method.needs_importance:
            raise RecipeError(
                f"method '{method.name}+{name}': {method.name} compares the importance of all "
                "sources, and a pair has none; choose another method"
            )
        number_name = number[0] if number else ""
        return replace(
            _with_part(method, matrix, cut, number_name),
            elsewhere={
                role: _with_part(method.for_role(role), other, None, number_name)
                for role in ("vector", "embedding")
            },
            prepare_key=lambda p: (*method.prepare_key(p), p.aligned, p.unaligned, *key(p)),
            per_source={**method.per_source, **dict([number] if number else [])},
            seeded=method.seeded or seeded,
            least_sources=method.least_sources + 1,
        )

    return Stage(name, params, around, pair=True)


def _with_part(
    method: Method, part: Part, cut: Callable[[State, float], State] | None, number: str
) -> Method:
    """The method for one role, with a part of the pair's delta added."""

    def without_pair(
        deltas: Deltas, params: PairParams, site: Site
    ) -> tuple[Deltas, Site, AlignmentPair]:
        pair = AlignmentPair.of(params, site.sources)
        others = pair.others(len(site.sources))
        rest = deltas[others] if isinstance(deltas, Tensor) else [deltas[i] for i in others]
        names = tuple(site.sources[i] for i in others)
        return rest, replace(site, sources=names, importance=None), pair

    def prepare(base: Tensor, deltas: Deltas, params: Any, site: Site) -> State:
        rest, at, pair = without_pair(deltas, params, site)
        strength = pair.unaligned if pair.aligned is None else pair.aligned
        places = [strength or 0, *pair.others(len(site.sources))]
        return {
            **method.prepare(base, rest, params, at),
            **part(pair.delta(deltas), params, site),
            "places": torch.tensor(places),
        }

    def select(state: State, selection: Selection, params: Any) -> State:
        strength, *others = state["places"].long().tolist()
        own = {k: v[strength] for k, v in selection.per_source.items()}
        rest = {k: tuple(v[i] for i in others) for k, v in selection.per_source.items()}
        added = {k: v for k, v in state.items() if k.startswith("added") or k == "places"}
        selected = state
        if method.select is not None:
            selected = method.select(state, replace(selection, per_source=rest), params)
        return {**selected, **(added if cut is None else cut(added, own[number]))}

    def combine(base: Tensor, state: State, weights: Tensor, params: Any) -> Tensor:
        strength, *others = state["places"].long().tolist()
        merged = method.merged(base, state, weights[others], params)
        if "added" in state:
            return merged + weights[strength] * state["added"]
        left = weights[strength] * state["added_left"]
        return merged + left @ state["added_right"].T

    def measure(deltas: Deltas, params: Any, site: Site) -> Measured:
        assert method.measure is not None
        rest, at, _ = without_pair(deltas, params, site)
        return method.measure(rest, params, at)

    def footprint(shape: tuple[int, ...], n_sources: int) -> int:
        return bytes_held(1, whole=5, squares=4)(shape, n_sources) + method.footprint(
            shape, n_sources
        )

    return replace(
        method,
        prepare=prepare,
        select=None if method.select is None and cut is None else select,
        weigh=None,
        combine=combine if method.differentiable else torch.no_grad()(combine),
        measure=None if method.measure is None else measure,
        piecewise=False,
        sums=None,
        rows=False,
        entrywise=(),
        linear=False,
        footprint=footprint,
    )


def whole(delta: Delta, params: Any, site: Site) -> State:
    """All of the pair's delta."""
    return {"added": dense(delta)}
