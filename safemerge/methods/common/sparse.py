"""What methods share that keep only a part of every delta: parameters, numbers and rescaling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from safemerge.methods.common.base import Scaled, Span, State
from safemerge.methods.common.blocks import blocks
from safemerge.methods.common.deltas import beside_base
from safemerge.methods.common.threshold import keep_window

# Searches begin where nothing is dropped, as EvoMM does: gradients of whole deltas lead further.
DENSITY = Span(default=0.5, low=0.0, high=1.0, start=1.0)
"""Share of the entries that is kept. mergekit's default is 1, which keeps everything."""

_LEAST_NORM = 1e-7  # mergekit's guard: below it nothing is rescaled


class TrimParams(Scaled):
    """Parameters of methods that keep entries by magnitude.

    Args:
        scale: factor on the merged delta, in [0, 10].
        normalize: divide by the sum of the weights; under a sign consensus, entry by entry by the
            sum of those that agree.
        rescale: "l1" gives what is kept of a delta the L1 norm of the whole delta.
    """

    normalize: bool = False
    rescale: Literal["none", "l1"] = "none"


class DropParams(Scaled):
    """Parameters of methods that keep entries at random.

    Args:
        scale: factor on the merged delta, in [0, 10].
        normalize: as in `TrimParams`.
        rescale: "inverse_density" divides an entry by the probability of keeping it, so that the
            expected delta is the delta, as DARE does; "l1" gives what is kept of a delta the L1
            norm of the whole delta, as mergekit does.
        seed: of all draws, in [0, 2^63).
    """

    normalize: bool = False
    rescale: Literal["inverse_density", "l1", "none"] = "inverse_density"
    seed: int = Field(default=0, ge=0, lt=2**63)


def sum_weights(weights: Tensor, factors: Tensor, scale: float, normalize: bool) -> Tensor:
    """Coefficients (1 + n_sources,) of base and kept deltas in a plain sum.

    Args:
        weights: (n_sources,).
        factors: (n_sources,), the rescaling of what is kept; no part of the divisor.
        scale: of the merged delta.
        normalize: divide by the sum of the weights, unless that is 0.
    """
    total = weights.sum()
    if not normalize or abs(total.item()) < 1e-8:
        total = torch.ones_like(total)
    return beside_base(scale * weights * factors.to(weights) / total)


def with_window(deltas: Tensor, low: list[float], high: list[float], params: TrimParams) -> State:
    """The state of deltas of which magnitudes in [low, high] are kept, with their rescaling."""
    least, most = torch.tensor(low), torch.tensor(high)
    factor = torch.ones(len(deltas))
    if params.rescale == "l1":
        sizes = l1_sizes(deltas, lambda size, _: keep_window(size, least, most))
        factor = quotients(sizes)
    return {"deltas": deltas, "low": least, "high": most, "factor": factor}


def l1_sizes(deltas: Tensor, keep: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """L1 norms of every delta and of what is kept of it, (2, n_sources), float64.

    Args:
        deltas: (n_sources, ...).
        keep: (magnitudes (n_sources, n) of some of the flattened entries, which they are) -> those
            magnitudes with 0 for what is not kept.
    """
    flat = deltas.reshape(len(deltas), -1)
    sizes = torch.zeros(2, len(deltas), dtype=torch.float64, device=deltas.device)
    for entries in blocks(flat.shape[1], flat.device):
        magnitudes = flat[:, entries].abs()
        sizes[0] += magnitudes.sum(dim=1)
        sizes[1] += keep(magnitudes, entries).sum(dim=1)
    return sizes


def quotients(sizes: Tensor) -> Tensor:
    """Whole over kept (2, n_sources), (n_sources,), float32; 1 where there is next to nothing."""
    whole, kept = sizes
    rescaled = (whole >= _LEAST_NORM) & (kept >= _LEAST_NORM)
    return torch.where(rescaled, whole / kept, 1.0).float()
