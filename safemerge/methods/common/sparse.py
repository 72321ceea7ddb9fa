"""What methods share that keep a part of every delta, by magnitude (`low`, `high` in the state) or
by a random mask (`keep`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from safemerge.methods.common.blocks import blocks
from safemerge.methods.common.draws import masked, probability
from safemerge.methods.common.method import Span, State
from safemerge.methods.common.params import Scaled
from safemerge.methods.common.threshold import keep_window
from safemerge.methods.common.weighted_sum import add_deltas, beside_base

# Searches begin where nothing is dropped: gradients of whole deltas lead further.
DENSITY = Span(default=0.5, low=0.0, high=1.0, start=1.0)
"""Share of the entries that is kept. mergekit's default is 1, which keeps everything."""

_LEAST_NORM = 1e-7  # mergekit's guard: below it nothing is rescaled


class TrimParams(Scaled):
    """Of methods that keep entries by magnitude, beside `scale`.

    Args:
        normalize: divide by the sum of the weights; under a sign consensus, entry by entry by the
            sum of those that agree.
        rescale: "l1" gives what is kept of a delta the L1 norm of the whole delta.
    """

    normalize: bool = False
    rescale: Literal["none", "l1"] = "none"


class DropParams(Scaled):
    """Of methods that keep entries at random, beside `scale`.

    Args:
        normalize: as in `TrimParams`.
        rescale: "inverse_density" divides an entry by the probability of keeping it, as DARE does;
            "l1" as in `TrimParams`, as mergekit does.
        seed: of all draws.
    """

    normalize: bool = False
    rescale: Literal["inverse_density", "l1", "none"] = "inverse_density"
    seed: int = Field(default=0, ge=0, lt=2**63)


SparseParams = TrimParams | DropParams


def kept(state: State) -> Tensor:
    """What is kept of the deltas, (n_sources, ...); the rest is 0."""
    if "keep" in state:
        return masked(state["deltas"], state["keep"])
    return keep_window(state["deltas"], state["low"], state["high"])


def with_sizes(state: State, params: SparseParams, densities: Sequence[float] = ()) -> State:
    """The state with `sizes` (2, n_sources), float64: of each delta, and of what is kept of it.

    `densities` (n_sources,) are the probabilities of keeping an entry, for "inverse_density".
    """
    sizes = torch.ones(2, len(state["deltas"]), dtype=torch.float64)
    if params.rescale == "l1":
        sizes = _l1_norms(state)
    elif params.rescale == "inverse_density":
        sizes[1] = sizes.new_tensor([probability(density) for density in densities])
    return {**state, "sizes": sizes}


def _l1_norms(state: State) -> Tensor:
    count = len(state["deltas"])
    flat = {n: state[n].reshape(count, -1) for n in ("deltas", "keep") if n in state}
    deltas = flat["deltas"]
    sizes = torch.zeros(2, count, dtype=torch.float64, device=deltas.device)
    for entries in blocks(deltas.shape[1], deltas.device):
        block = {**state, **{name: tensor[:, entries] for name, tensor in flat.items()}}
        sizes[0] += block["deltas"].abs().sum(dim=1)
        sizes[1] += kept(block).abs().sum(dim=1)
    return sizes


def rescaling(state: State) -> Tensor:
    """f (n_sources,), float32: whole size over kept size; 1 where there is next to nothing."""
    whole, rest = state["sizes"]
    rescaled = (whole >= _LEAST_NORM) & (rest >= _LEAST_NORM)
    return torch.where(rescaled, whole / rest, 1.0).float()


def weigh(state: State, weights: Tensor, params: SparseParams) -> Tensor:
    """Coefficients (1 + n_sources,) of `add_kept`: w_i f_i, by the sum of w with `normalize`.

    Where the weights sum to 0, nothing is divided.
    """
    total = weights.sum()
    if not params.normalize or abs(total.item()) < 1e-8:
        total = torch.ones_like(total)
    return beside_base(params.scale * weights * rescaling(state).to(weights) / total)


def add_kept(base: Tensor, state: State, coefficients: Tensor, params: SparseParams) -> Tensor:
    return add_deltas(base, {"deltas": kept(state)}, coefficients, params)
