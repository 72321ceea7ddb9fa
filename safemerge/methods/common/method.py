"""What a merge method is: a few pure functions, and the properties that they promise.

    prepare(base, deltas, params, site) -> state            once per tensor, may be slow
    select(state, selection, params) -> state               once per rank ratio, density, ...
    weigh(state, weights, params) -> coefficients           every trial, small
    entries(base, deltas, state, site) -> state             every trial, of a piece
    combine(base, state, coefficients, params) -> tensor    every trial

What is as large as the deltas is never kept where `entries` can form it again, piece by piece.

All compute in float32 and return float32, read no files and change no inputs; a state may hold the
tensors that came in. Their arguments are described at `Method`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from safemerge.errors import RecipeError, near_names
from safemerge.factors import Factoriser
from safemerge.methods.common.blocks import BLOCK, blocks
from safemerge.methods.common.params import Params
from safemerge.names import Role
from safemerge.recipe import Recipe, first_problem

State = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Site:
    """The place of one tensor, as far as its preparation depends on it.

    Args:
        tensor: the parameter's name.
        sources: names of the sources, in the order of the deltas.
        svd: gives `Factors` of a delta.
        importance: for methods that need it, (n_sources, *base.shape), int16: positions in the
            order of importance to each source (`importance_order`).
        begin: entries of the tensor before the first one that is prepared, where it is a piece.
        columns: entries of a row of the tensor; None where what is prepared has its shape.
    """

    tensor: str
    sources: tuple[str, ...]
    svd: Factoriser
    importance: Tensor | None = None
    begin: int = 0
    columns: int | None = None

    def seed(self, seed: int, source: str) -> int:
        """Seed of one source in this tensor, in [0, 2^63), from the names: the same on every
        machine, whatever else is drawn and in whatever order."""
        digest = hashlib.sha256(repr((seed, self.tensor, source)).encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True, slots=True)
class Span:
    """A per-source number: default, closed range, where a search begins (None: the default)."""

    default: float
    low: float
    high: float
    start: float | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a tensor before the merge, where others of its module type need it.

    Args:
        density: share of its entries that matter, in [0, 1]; of a stack, of its densest matrix.
        norms: Frobenius norm of the deltas of all sources together, of each matrix that it holds.
    """

    density: float
    norms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Peers:
    """Of all tensors of one module type; None where the method measures nothing.

    Args:
        peak_density: highest density.
        mean_norm: mean of the norms of those matrices that a source changes.
    """

    peak_density: float | None = None
    mean_norm: float | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """What a recipe selects of the deltas at one place, apart from the weights.

    Args:
        rank_ratio: share of the rank that is kept, in (0, 1]; None is the method's own.
        peak_density, mean_norm: as in `Peers`, of the tensors of the same module type.
        per_source: `{number: values}`, a value for each source in order, for every number that the
            method declares.
    """

    rank_ratio: float | None = None
    peak_density: float | None = None
    per_source: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    mean_norm: float | None = None


def measured(state: State) -> Measured | None:
    """What `measure` returns, from the state of `prepare`."""
    if "density" not in state:
        return None
    return Measured(state["density"].item(), tuple(state["norm"].reshape(-1).tolist()))


def the_deltas(base: Tensor, deltas: Tensor, state: State, site: Site) -> State:
    """`entries` of methods that look at the deltas alone."""
    return {"deltas": deltas}


def a_few_copies(shape: tuple[int, ...], n_sources: int) -> int:
    """Footprint of most methods: deltas, another tensor for each source, and four of working."""
    return 4 * math.prod(shape) * (2 * n_sources + 4)


@dataclass(frozen=True, slots=True)
class Method:
    """A merge method and what it promises. The contract table tests every promise.

    Args:
        name: key in METHODS.
        params: model of its parameters.
        prepare: (base (out, in), deltas (n_sources, out, in) float32, params, site) -> state. With
            `low_rank`, the deltas of a matrix may be a list of `LowRank`.
        combine: (base (out, in), state, coefficients, params) -> (out, in) float32.
        select: (state, selection, params) -> state; None where the weights alone matter.
        weigh: (state, weights (n_sources,), params) -> coefficients (any shape); None where
            `combine` takes the weights themselves.
        piecewise: `prepare` and `select` of consecutive flat entries (`Site.begin`) return what the
            whole tensor's state holds of them, but for `sums`.
        sums: (params) -> tensors of the state that add up over pieces, such as inner products.
        rows: pieces have to be whole rows.
        entrywise: tensors of the state of shape (k, *base.shape). Where there are any, `combine`
            treats every entry by itself, given the rest of the state, and can work in blocks.
        entries: (base, deltas, state, site) -> the `entrywise` tensors of consecutive flat entries,
            given the rest of the state that `select` returned.
        linear: `combine` adds the deltas and the base, by one coefficient each (`add_deltas`).
        low_rank: `prepare` takes the factors of deltas, and `measure` does.
        block: entries of such a block on a CPU.
        elsewhere: the method for each role that this one does not treat itself.
        per_source: numbers that each source has at each place, such as density.
        spectral: uses the rank ratio.
        measure: (deltas, params, site) -> what `select` receives of all tensors of a module type.
            Where given, the state of `prepare` holds the same as `density` and `norm`.
        prepare_key: what of the parameters `prepare` reads; equal keys share a state.
        slow_select: `select` takes much longer than reading what it returns from a disk, and reads
            no parameter but those of `prepare_key`.
        least_sources, most_sources: how many sources it merges; None is any number.
        footprint: (shape, n_sources) -> bytes that prepare, select and combine hold at once, deltas
            and result included.
        needs_importance: masks by importance, so that every source needs an importance file.
        seeded: draws random numbers from `params.seed` and `Site.seed`.
        zero_is_base: weight 0 everywhere returns the base bit for bit.
        positive_sum: weights without a positive sum are refused, as where they are shares.
        ignores_base: it averages the sources themselves; the base plays no part.
        one_source_is_itself: a single source of weight 1 comes back as it is, at full rank.
        differentiable: autograd reaches the weights through `combine`.
    """

    name: str
    params: type[Params]
    prepare: Callable[[Tensor, Any, Any, Site], State]  # deltas: Tensor, or Deltas with `low_rank`
    combine: Callable[[Tensor, State, Tensor, Any], Tensor]
    select: Callable[[State, Selection, Any], State] | None = None
    weigh: Callable[[State, Tensor, Any], Tensor] | None = None
    piecewise: bool = False
    sums: Callable[[Any], tuple[str, ...]] | None = None
    rows: bool = False
    entrywise: tuple[str, ...] = ()
    entries: Callable[[Tensor, Tensor, State, Site], State] = the_deltas
    linear: bool = False
    low_rank: bool = False
    block: int = BLOCK
    elsewhere: Mapping[Role, Method] = field(default_factory=dict)
    per_source: Mapping[str, Span] = field(default_factory=dict)
    spectral: bool = False
    measure: Callable[[Any, Any, Site], Measured] | None = None  # of Deltas
    prepare_key: Callable[[Any], tuple[object, ...]] = lambda params: ()
    slow_select: bool = False
    least_sources: int = 1
    most_sources: int | None = None
    footprint: Callable[[tuple[int, ...], int], int] = a_few_copies
    needs_importance: bool = False
    seeded: bool = False
    zero_is_base: bool = True
    positive_sum: bool = False
    ignores_base: bool = False
    one_source_is_itself: bool = True
    differentiable: bool = True

    def merged(self, base: Tensor, state: State, weights: Tensor, params: Params) -> Tensor:
        """The merged tensor in float32, as a differentiable function of the weights (n_sources,).

        `state` is what `select` returned, or `prepare` where there is no `select`.
        """
        return self.combine(base, state, self.coefficients(state, weights, params), params)

    @torch.no_grad()
    def combine_into(
        self, out: Tensor, base: Tensor, state: State, coefficients: Tensor, params: Params
    ) -> None:
        """Write the numbers of `combine` into `out` (the base's shape, any floating dtype).

        Entry-wise methods work in blocks, whose temporaries stay in a CPU's cache.
        """
        if not self.entrywise or not out.is_contiguous():
            out.copy_(self.combine(base, state, coefficients, params))
            return
        flat_out, flat_base = out.view(-1), base.reshape(-1)
        flat = {n: state[n].reshape(len(state[n]), base.numel()) for n in self.entrywise}
        for entries in blocks(base.numel(), base.device, torch.get_num_threads(), self.block):
            block = {**state, **{name: tensor[:, entries] for name, tensor in flat.items()}}
            # Without a name, so that its memory, still in the cache, serves the next block.
            flat_out[entries].copy_(self.combine(flat_base[entries], block, coefficients, params))

    def coefficients(self, state: State, weights: Tensor, params: Params) -> Tensor:
        """What `combine` takes for the weights (n_sources,)."""
        return weights if self.weigh is None else self.weigh(state, weights, params)

    def for_role(self, role: Role) -> Method:
        """The method that treats tensors of this role: itself, or the one named for it."""
        return self.elsewhere.get(role, self)

    def parse(self, params: Mapping[str, object]) -> Params:
        """Check parameters against this method's model."""
        try:
            return self.params.model_validate(dict(params))
        except ValidationError as error:
            known = ", ".join(self.params.model_fields) or "none"
            raise RecipeError(
                f"method {self.name!r}: {first_problem(error)} (its parameters: {known})"
            ) from error

    def check(self, recipe: Recipe) -> Params:
        """Check all that a recipe says to this method but its weights, and return its parameters.

        Raises:
            RecipeError: an unknown or out-of-range parameter or per-source number, too few or
                too many sources, a source without an importance file.
        """
        params = self.parse(recipe.params)
        self.check_count([source.name for source in recipe.sources])
        bare = [source.name for source in recipe.sources if source.importance is None]
        if self.needs_importance and bare:
            raise RecipeError(
                f"method {self.name!r} needs an importance file of every source, and {bare[0]!r} "
                "has none; write it with `safemerge importance`, from questions and answers of "
                "that source's domain, and name it as `importance` of the source"
            )
        for number, by_group in recipe.per_source.items():
            if number not in self.per_source:
                known = near_names(number, self.per_source) if self.per_source else "it has none"
                raise RecipeError(
                    f"method {self.name!r} has no per-source number {number!r}; {known}"
                )
            span = self.per_source[number]
            for group, by_source in by_group.items():
                for source, value in by_source.items():
                    if not span.low <= value <= span.high:
                        raise RecipeError(
                            f"method {self.name!r}: {number} of source {source!r} at place group "
                            f"{group!r} is {value:g}; the range is [{span.low:g}, {span.high:g}]"
                        )
        params.check_against(recipe)
        return params

    def check_count(self, sources: Sequence[str]) -> None:
        """Refuse more or fewer sources than this method merges, given by name."""
        most = self.most_sources
        if len(sources) < self.least_sources or (most is not None and len(sources) > most):
            wanted = f"at least {self.least_sources}" if most is None else f"exactly {most}"
            raise RecipeError(
                f"method {self.name!r} merges {wanted} sources, but the recipe names "
                f"{len(sources)} ({', '.join(sources)}); change its sources, or the method"
            )

    def check_weights(self, recipe: Recipe) -> None:
        """Refuse weights without a positive sum where the method averages sources."""
        for group in recipe.weights if self.positive_sum else ():
            weights = recipe.weights_at(group)
            if sum(weights) <= 0.0:
                raise RecipeError(
                    f"method {self.name!r} averages the sources, and at place group {group!r} the "
                    f"sum of the weights {weights} is not positive; give weights that are"
                )

    def selection(self, recipe: Recipe, group: str, peers: Peers = Peers()) -> Selection:
        """What a recipe that passed `check` selects at a place group."""
        per_source = {}
        for number, span in self.per_source.items():
            given = recipe.per_source_at(number, group)
            per_source[number] = tuple(given.get(s.name, span.default) for s in recipe.sources)
        ratio = recipe.rank_ratio_at(group)
        return Selection(ratio, peers.peak_density, per_source, peers.mean_norm)
