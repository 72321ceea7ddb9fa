"""merge_tensor: one tensor of a recipe, for streamed and for resident merges.

    prepare -> PreparedTensor    from the checkpoints; all that no number of a trial changes
    select  -> State             the rank ratio and the per-source numbers
    merge_tensor                 the weights

A streamed merge runs the three in a row, or `merge_pieces`, which has the same bytes and never
holds the tensor's deltas as a whole; a resident one keeps what the first two return.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from safemerge.factors import Factoriser
from safemerge.inputs import Inputs
from safemerge.methods import Method, Params, Site, State
from safemerge.methods.common.adapt_layout import adapt_layout
from safemerge.names import place_of
from safemerge.recipe import Recipe

# Entries of a piece: 2 MiB of float32, which stay in a CPU's cache from one operation to the next.
PIECE_ENTRIES = 2**19
DEVICE_PIECE_ENTRIES = 2**26
# Up to this, pieces that are gone through twice are kept; three such tensors are in progress.
KEPT_PIECES_BYTES = 512 * 2**20 // 3


@dataclass(frozen=True, slots=True)
class PreparedTensor:
    """One tensor on the device, ready for any weights and numbers."""

    base: Tensor  # in its own dtype
    state: State  # what the method has prepared
    method: Method  # for the tensor's role and layout
    group: str  # its place group
    module: str  # its module type, such as `q_proj`


@dataclass(frozen=True, slots=True)
class MergeJob:
    """A recipe with its inputs open: all that preparing a tensor needs."""

    recipe: Recipe  # whose inputs and method these are
    inputs: Inputs  # its checkpoints
    method: Method  # its method, for tensors of no special role or layout
    params: Params  # of the method
    svd: Factoriser  # gives factors of deltas
    device: torch.device | str  # where the arithmetic is done

    def method_of(self, name: str) -> Method:
        """The method for a tensor's role and layout."""
        return adapt_layout(self.method.for_role(self.inputs.role(name)), self.inputs.layout(name))

    def site(self, name: str, importance: Tensor | None = None, begin: int = 0) -> Site:
        """What the preparation of a tensor, or of its entries from `begin` on, depends on."""
        sources = tuple(source.name for source in self.recipe.sources)
        return Site(name, sources, self.svd, importance, begin)

    def prepare(self, name: str, group: str) -> PreparedTensor:
        """Read one tensor from all checkpoints and prepare it."""
        method = self.method_of(name)
        base, deltas = self.inputs.load(name, self.device)
        important = self.inputs.positions(name, self.device) if method.needs_importance else None
        state = method.prepare(base, deltas, self.params, self.site(name, important))
        return PreparedTensor(base, state, method, group, place_of(name).module)


def select(
    tensor: PreparedTensor, recipe: Recipe, params: Params, peak: Mapping[str, float]
) -> State:
    """The state at a recipe's numbers; `peak` is `{module: highest density}`."""
    method = tensor.method
    if method.select is None:
        return tensor.state
    selection = method.selection(recipe, tensor.group, peak.get(tensor.module))
    return method.select(tensor.state, selection, params)


def peak_density(densities: Iterable[tuple[str, float]]) -> dict[str, float]:
    """`{module: highest density}`, of (module, density) pairs."""
    peak: dict[str, float] = defaultdict(float)
    for module, density in densities:
        peak[module] = max(peak[module], density)
    return dict(peak)


def weights_at(tensor: PreparedTensor, recipe: Recipe) -> Tensor:
    """A recipe's weights at a tensor, (n_sources,), on its device."""
    return torch.tensor(recipe.weights_at(tensor.group), device=tensor.base.device)


def merge_tensor(
    out: Tensor, tensor: PreparedTensor, state: State, recipe: Recipe, params: Params
) -> None:
    """Write the tensor, merged by a recipe's weights, into `out`: its shape, any floating dtype."""
    weights = weights_at(tensor, recipe)
    tensor.method.merge_into(out, tensor.base, state, weights, params)


def keeps_pieces(job: MergeJob, name: str) -> bool:
    """Whether `merge_pieces` goes through a tensor twice and holds its pieces in between."""
    method, shape = job.method_of(name), job.inputs.base.tensors[name].shape
    small = method.footprint(shape, len(job.inputs.sources)) <= KEPT_PIECES_BYTES
    return method.sums is not None and small


def merge_pieces(out: Tensor, job: MergeJob, name: str, group: str) -> None:
    """Read one tensor of a `piecewise` method and write it merged, piece by piece.

    `out` is contiguous, of the base's shape and any floating dtype.
    """
    recipe, params, device = job.recipe, job.params, torch.device(job.device)
    method = job.method_of(name)
    selection = method.selection(recipe, group)

    def pieces() -> Iterator[tuple[slice, Tensor, State]]:
        entries = PIECE_ENTRIES if device.type == "cpu" else DEVICE_PIECE_ENTRIES
        for piece, base, deltas in job.inputs.pieces(name, entries, device):
            state = method.prepare(base, deltas, params, job.site(name, begin=piece.start))
            if method.select is not None:
                state = method.select(state, selection, params)
            yield piece, base, state

    summed = () if method.sums is None else method.sums(params)
    sums: dict[str, Tensor] = {}
    kept: list[tuple[slice, Tensor, State]] = []
    if summed:
        keeps = keeps_pieces(job, name)
        for piece in pieces():
            _, _, state = piece
            for key in summed:
                sums[key] = sums[key] + state[key] if key in sums else state[key]
            if keeps:
                kept.append(piece)
    weights, flat = torch.tensor(recipe.weights_at(group), device=device), out.view(-1)
    for entries, base, state in kept or pieces():
        method.merge_into(flat[entries], base, {**state, **sums}, weights, params)
