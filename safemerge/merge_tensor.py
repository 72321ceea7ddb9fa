"""merge_tensor: one tensor of a recipe, for streamed and for resident merges.

    prepare -> State     all that no number of a trial changes, of methods that keep such things
    select  -> State     the rank ratio and the per-source numbers; nothing as large as the deltas
                         of methods that can form these again
    merge_tensor         the weights; deltas are formed piece by piece

A streamed merge runs them in a row; a resident one keeps what they return, and has its inputs held.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from safemerge.factors import Factoriser
from safemerge.inputs import Inputs
from safemerge.io import load_finite
from safemerge.low_rank import Deltas, add_products, inner_products
from safemerge.methods import Method, Params, Selection, Site, State
from safemerge.methods.common.adapt_layout import adapt_layout
from safemerge.methods.common.method import Measured, Peers
from safemerge.recipe import Recipe

# Entries of a piece: 2 MiB of float32, which stay in a CPU's cache from one operation to the next.
PIECE_ENTRIES = 2**19
DEVICE_PIECE_ENTRIES = 2**26
# Up to this, what is gone through twice is held in between; three such tensors are in progress.
HELD_BYTES = 512 * 2**20 // 3


@dataclass(frozen=True, slots=True)
class MergeJob:
    """A recipe with its inputs open: all that merging a tensor needs."""

    recipe: Recipe  # whose inputs and method these are
    inputs: Inputs  # its checkpoints
    method: Method  # its method, for tensors of no special role or layout
    params: Params  # of the method
    svd: Factoriser  # gives factors of deltas
    device: torch.device | str  # where the arithmetic is done

    def method_of(self, name: str) -> Method:
        """The method for a tensor's role and layout."""
        return adapt_layout(self.method.for_role(self.inputs.role(name)), self.inputs.layout(name))

    def site(
        self,
        name: str,
        importance: Tensor | None = None,
        begin: int = 0,
        columns: int | None = None,
    ) -> Site:
        """What the preparation of a tensor, or of its entries from `begin` on, depends on."""
        sources = tuple(source.name for source in self.recipe.sources)
        return Site(name, sources, self.svd, importance, begin, columns)

    def deltas(self, name: str) -> tuple[Tensor, Deltas]:
        """A tensor of the base, and its deltas, by their factors where the method takes these."""
        factors = self.inputs.low_rank(name, self.device) if self.method_of(name).low_rank else None
        if factors is None:
            return self.inputs.load(name, self.device)
        return load_finite(self.inputs.base, name).to(self.device), factors

    def prepare(self, name: str) -> State:
        """Read one tensor from all checkpoints and prepare it as a whole."""
        method = self.method_of(name)
        base, deltas = self.deltas(name)
        important = self.inputs.positions(name, self.device) if method.needs_importance else None
        return method.prepare(base, deltas, self.params, self.site(name, important))

    def pieces(
        self, name: str, *, whole: bool = False
    ) -> Iterator[tuple[slice, Tensor, Tensor, Site]]:
        """A tensor in flat pieces: where each lies, base (n,), deltas (n_sources, n), its site."""
        device = torch.device(self.device)
        entries = PIECE_ENTRIES if device.type == "cpu" else DEVICE_PIECE_ENTRIES
        columns = self._columns(name)
        if whole:
            entries = max(1, math.prod(self.inputs.base.tensors[name].shape))
        elif self.method_of(name).rows and columns:
            entries = max(1, entries // columns) * columns
        important = None
        if self.method_of(name).needs_importance:
            important = self.inputs.positions(name, device).flatten(1)
        for piece, base, deltas in self.inputs.pieces(name, entries, device):
            own = None if important is None else important[:, piece]
            yield piece, base, deltas, self.site(name, own, piece.start, columns)

    def no_piece(self, name: str) -> tuple[Tensor, Tensor, Site]:
        """Base, deltas and site of no entries."""
        count, dtype = len(self.inputs.sources), self.inputs.base.tensors[name].dtype
        deltas = torch.empty(count, 0, device=self.device)
        site = self.site(name, deltas.short(), 0, self._columns(name))
        return torch.empty(0, dtype=dtype, device=self.device), deltas, site

    def _columns(self, name: str) -> int:
        """Entries of a row; a vector is one, and a number."""
        return [1, *self.inputs.base.tensors[name].shape][-1]

    def working_bytes(self, name: str) -> int:
        """Most memory that one tensor takes on the way, beside its inputs and result."""
        method, count = self.method_of(name), len(self.inputs.sources)
        shape = self.inputs.base.tensors[name].shape
        summed_whole = method.rows and method.sums is not None and method.sums(self.params)
        in_pieces = method.piecewise and not summed_whole
        return method.footprint((PIECE_ENTRIES,) if in_pieces else shape, count)


def select(
    job: MergeJob, name: str, selection: Selection, params: Params, prepared: State | None = None
) -> State:
    """The state of a tensor at a selection, without the entries that the method forms again.

    `prepared` is what `MergeJob.prepare` returned, where that is known.
    """
    method = job.method_of(name)
    state: State
    if method.piecewise:
        state = _summed(job, name, selection, params)
    else:
        state = job.prepare(name) if prepared is None else prepared
        if method.select is not None:
            state = method.select(state, selection, params)
    return {key: value for key, value in state.items() if key not in method.entrywise}


def _summed(job: MergeJob, name: str, selection: Selection, params: Params) -> State:
    """The state of a `piecewise` method but for the entries, which are formed only to be summed."""
    method = job.method_of(name)

    def at(base: Tensor, deltas: Tensor, site: Site) -> State:
        state = method.prepare(base, deltas, params, site)
        return state if method.select is None else method.select(state, selection, params)

    state = at(*job.no_piece(name))
    summed = () if method.sums is None else method.sums(params)
    sums = {key: state[key] for key in summed}
    if summed:
        # Of rows, which end within blocks of a sum, as one: its last digits hang on these.
        for _, base, deltas, site in job.pieces(name, whole=method.rows):
            part = at(base, deltas, site)
            sums = {key: value + part[key] for key, value in sums.items()}
    return {**state, **sums}


def gone_through_twice(job: MergeJob, name: str, params: Params) -> bool:
    """Whether `select` and `merge_tensor` both form the deltas of a tensor."""
    method = job.method_of(name)
    return bool(method.entrywise) and (
        not method.piecewise or (method.sums is not None and bool(method.sums(params)))
    )


def peers(measured: Iterable[tuple[str, Measured]]) -> dict[str, Peers]:
    """`{module type: Peers}`, of (module type, what was measured of a tensor) in any order."""
    grouped: dict[str, list[Measured]] = defaultdict(list)
    for module, one in measured:
        grouped[module].append(one)
    found = {}
    for module, ones in grouped.items():
        norms = [norm for one in ones for norm in one.norms if norm > 0.0]
        mean = math.fsum(norms) / len(norms) if norms else None
        found[module] = Peers(max(one.density for one in ones), mean)
    return found


@torch.no_grad()
def merge_tensor(
    out: Tensor, job: MergeJob, name: str, state: State, weights: Tensor, params: Params
) -> None:
    """Write a tensor, merged by weights (n_sources,), into `out`: its shape, any floating dtype.

    `state` is what `select` returned.
    """
    method, inputs = job.method_of(name), job.inputs
    if not method.entrywise:
        base = load_finite(inputs.base, name).to(job.device)
        coefficients = method.coefficients(state, weights, params)
        method.combine_into(out, base, state, coefficients, params)
        return
    coefficients = method.coefficients(state, weights, params)
    factors = inputs.low_rank(name, job.device) if method.linear else None
    if factors is not None:
        base = load_finite(inputs.base, name).to(job.device)
        add_products(out, base, factors, coefficients)
        return
    whole = (
        out if out.is_contiguous() else torch.empty_like(out, memory_format=torch.contiguous_format)
    )
    flat = whole.view(-1)
    for piece, base, deltas, site in job.pieces(name):
        entries = {**state, **method.entries(base, deltas, state, site)}
        method.combine_into(flat[piece], base, entries, coefficients, params)
    if whole is not out:
        out.copy_(whole)


def weight_gradient(
    job: MergeJob, name: str, state: State, weights: Tensor, params: Params, gradient: Tensor
) -> Tensor:
    """Project a merged tensor's gradient (*shape, any floating dtype) onto its weights.

    Returns:
        d loss / d weights, (n_sources,), float32.
    """
    method, inputs = job.method_of(name), job.inputs
    weights = weights.clone().requires_grad_()
    if not method.entrywise:
        base = load_finite(inputs.base, name).to(job.device)
        with torch.enable_grad():
            merged = method.merged(base, state, weights, params)
        (slope,) = torch.autograd.grad(
            merged, weights, gradient.to(merged.dtype), materialize_grads=True
        )
        return slope
    if method.linear:
        inner = _inner_products(job, name, gradient)
        with torch.enable_grad():
            coefficients = method.coefficients(state, weights, params)
        (slope,) = torch.autograd.grad(coefficients, weights, inner, materialize_grads=True)
        return slope
    flat, total = gradient.reshape(-1), torch.zeros_like(weights)
    for piece, base, deltas, site in job.pieces(name):
        entries = {**state, **method.entries(base, deltas, state, site)}
        with torch.enable_grad():
            merged = method.merged(base, entries, weights, params)
        own = flat[piece].to(merged.dtype)
        total += torch.autograd.grad(merged, weights, own, materialize_grads=True)[0]
    return total.detach()


def _inner_products(job: MergeJob, name: str, gradient: Tensor) -> Tensor:
    """Of a gradient with the base and with every delta, (1 + n_sources,), float32."""
    factors = job.inputs.low_rank(name, job.device)
    if factors is not None:
        base = load_finite(job.inputs.base, name).to(job.device)
        return inner_products(gradient, base, factors)
    flat = gradient.reshape(-1)
    inner = torch.zeros(1 + len(job.inputs.sources), device=gradient.device)
    for piece, base, deltas, _ in job.pieces(name):
        own = flat[piece].float()
        inner += torch.cat([(base.float() @ own)[None], deltas @ own])
    return inner
