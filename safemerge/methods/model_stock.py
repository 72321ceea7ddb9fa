"""Model Stock: the mean of the sources, drawn to the base the more they disagree.

Source: Jang et al. 2024 (2403.19522), per tensor as in mergekit's `model_stock`. With cos the mean
cosine between pairs of the T deltas; all weights 1 is the method itself, which has none:

    t = T cos / (1 + (T - 1) cos)        theta = base + scale * t / T * sum_i w_i D_i
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from safemerge.methods import task_arithmetic
from safemerge.methods.common.method import Site, State
from safemerge.methods.common.params import Scaled
from safemerge.methods.common.weighted_sum import beside_base, gram, norms

LEAST_NORMS = 1e-6  # mergekit's guards: of the product of two norms,
SINGULAR = 1e-6  # and of 1 + (T - 1) cos, where deltas cancel: there t is 0


def prepare(base: Tensor, deltas: Tensor, params: Scaled, site: Site) -> State:
    """Keep the `deltas` (T, *shape) beside their Gram matrix, `gram` (T, T)."""
    return {"deltas": deltas, "gram": gram(deltas)}


def weigh(state: State, weights: Tensor, params: Scaled) -> Tensor:
    t = interpolation_ratio(state["gram"]).item()
    return beside_base(params.scale * t / weights.numel() * weights)


def interpolation_ratio(products: Tensor) -> Tensor:
    """t, from the Gram matrix of the deltas (T, T) in float64; 0-D, at most 1."""
    count = len(products)
    lengths = norms(products)
    cosines = products / (lengths[:, None] * lengths).clamp_min(LEAST_NORMS)
    above = torch.triu_indices(count, count, offset=1)
    cos = cosines[above[0], above[1]].clamp(-1.0, 1.0).mean()
    divisor = 1.0 + (count - 1) * cos
    if abs(divisor.item()) < SINGULAR:
        return torch.zeros_like(divisor)
    return count * cos / divisor


METHOD = replace(
    task_arithmetic.METHOD,
    name="model_stock",
    prepare=prepare,
    sums=lambda params: ("gram",),
    weigh=weigh,
    least_sources=2,
)
