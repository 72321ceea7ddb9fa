"""TIES: trim every delta to its largest entries, elect a sign for every entry, merge what agrees.

Source: Yadav et al. 2023 (2306.01708), in mergekit's form: trimmed tensor by tensor, and a weight
for every source. Of a tensor of n entries, with k = max(1, int(density n)):

    trim:   D'_i = D_i where |D_i| is at least the k-th largest |D_i|, else 0
    elect:  m = sign(sum_i w_i D'_i), entry by entry; 1 where the sum is 0
    merge:  theta = base + scale * sum_i w_i D'_i / sum_i w_i, both over the i where w_i D'_i has
            the sign m
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from safemerge.methods.common.method import Method, Selection, State
from safemerge.methods.common.sparse import (
    DENSITY,
    SparseParams,
    TrimParams,
    kept,
    rescaling,
    with_sizes,
)
from safemerge.methods.common.threshold import magnitude_at
from safemerge.methods.common.weighted_sum import bytes_of_deltas, keep_deltas


class TiesParams(TrimParams):
    """See `TrimParams`."""

    normalize: bool = True


def select(state: State, selection: Selection, params: TrimParams) -> State:
    """The state with `low` and `high` (n_sources,), between which entries are kept by `density`,
    and `sizes` (2, n_sources).
    """
    deltas, densities = state["deltas"], selection.per_source["density"]
    low = [_least_kept(delta, density) for delta, density in zip(deltas, densities, strict=True)]
    high = [math.inf] * len(low)
    return with_sizes({**state, "low": torch.tensor(low), "high": torch.tensor(high)}, params)


def _least_kept(delta: Tensor, density: float) -> float:
    if density >= 1.0 or delta.numel() == 0:
        return 0.0
    if density <= 0.0:
        return math.inf
    k = max(1, int(density * delta.numel()))
    return magnitude_at(delta, [delta.numel() - k])[0]


def weigh(state: State, weights: Tensor, params: SparseParams) -> Tensor:
    """Coefficients (2, n_sources): of what is kept, rescaled, and of the divisor."""
    return torch.stack([params.scale * weights * rescaling(state).to(weights), weights])


def combine(base: Tensor, state: State, coefficients: Tensor, params: SparseParams) -> Tensor:
    trimmed = kept(state)
    if not params.normalize:
        # sum_{agree} x = (sum x + m sum |x|) / 2, with x = w_i D'_i: no mask.
        total = torch.tensordot(coefficients[0], trimmed, dims=1)
        size = torch.tensordot(coefficients[0].abs(), trimmed.abs(), dims=1)
        return base.float().add(total + size * _sign(total), alpha=0.5)
    m, agreeing = elect(trimmed, coefficients[0])
    divisor = torch.tensordot(coefficients[1], agreeing.sign(), dims=1)
    merged = m * agreeing.sum(dim=0) / (divisor + (1 - divisor.abs().sign()))  # 1 in place of 0
    result: Tensor = base.float() + merged
    return result


def elect(trimmed: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """The majority sign m (...) of every entry, 1 or -1, and |w_i D'_i| where its sign is m, else
    0.

    `trimmed` is D' (n_sources, ...), and `coefficients` w (n_sources,). Gradients hold m fixed.
    """
    m = _sign(torch.tensordot(coefficients, trimmed, dims=1))
    by_source = coefficients.reshape(-1, *[1] * m.dim())
    # relu, not a mask: torch compares several times slower than it multiplies.
    return m, (trimmed * by_source).mul_(m).relu_()


def _sign(total: Tensor) -> Tensor:
    """1 or -1, float32; 1 for 0."""
    total = total.detach().float()
    return torch.ones_like(total).copysign_(total)


METHOD = Method(
    name="ties",
    params=TiesParams,
    prepare=keep_deltas,
    select=select,
    weigh=weigh,
    combine=combine,
    entrywise=("deltas",),
    footprint=bytes_of_deltas,
    per_source={"density": DENSITY},
)
