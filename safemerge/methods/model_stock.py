"""Model Stock: the mean of the sources, drawn to the base the more they disagree.

Source: Jang et al. 2403.19522; per tensor, as in mergekit's `model_stock` (methods.md 4.9). With
cos the mean cosine between pairs of the T deltas:

    t = T cos / (1 + (T - 1) cos)        theta = base + scale * t / T * sum_i w_i D_i

Weights scale the deltas of this mean; all 1 is the method itself, which has none. The cosine is
that of the deltas as they are, so it is taken once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safemerge.methods.common.base import Method, Scaled, State
from safemerge.methods.common.deltas import (
    SUM_BLOCK,
    add_deltas,
    beside_base,
    bytes_of_deltas,
    keep_deltas_and,
    keep_piece,
)
from safemerge.methods.common.gram import gram_of_deltas, norms

_LEAST_NORMS = 1e-6  # mergekit's guards: of the product of two norms,
_SINGULAR = 1e-6  # and of 1 + (T - 1) cos, where deltas cancel: there t is 0


def interpolation_ratio(products: Tensor) -> Tensor:
    """t, from the Gram matrix of the deltas (T, T) in float64; 0-D, at most 1."""
    count = len(products)
    lengths = norms(products)
    cosines = products / (lengths[:, None] * lengths).clamp_min(_LEAST_NORMS)
    above = torch.triu_indices(count, count, offset=1)
    cosine = cosines[above[0], above[1]].clamp(-1.0, 1.0).mean()
    divisor = 1.0 + (count - 1) * cosine
    if abs(divisor.item()) < _SINGULAR:
        return torch.zeros_like(divisor)
    return count * cosine / divisor


def weigh(state: State, weights: Tensor, params: Scaled) -> Tensor:
    """Coefficients of base and deltas.

    Args:
        state: `gram` (n_sources, n_sources) of the deltas.
        weights: (n_sources,), any finite value.
        params: `scale`.
    """
    ratio = interpolation_ratio(state["gram"]).item()
    return beside_base(params.scale * ratio / weights.numel() * weights)


METHOD = Method(
    name="model_stock",
    source="2403.19522; methods.md 4.9",
    params=Scaled,
    prepare=keep_deltas_and(gram_of_deltas),
    in_pieces=keep_piece,
    gather=gram_of_deltas,
    weigh=weigh,
    combine=add_deltas,
    entrywise=("deltas",),
    block=SUM_BLOCK,
    footprint=bytes_of_deltas,
    least_sources=2,
)
