"""TIES: trim every delta to its largest entries, elect a sign for every entry, merge what agrees.

Source: Yadav et al. 2306.01708, in mergekit's form: trimmed tensor by tensor, and a weight for
every source (methods.md 4.5). With D'_i the entries of D_i whose magnitude is among the largest
`density` of the tensor, and m = sign(sum_i w_i D'_i):

    theta = base + scale * sum_{i agrees} w_i D'_i / sum_{i agrees} w_i

Entries as large as the smallest kept one are kept too, so that the order of entries plays no part;
where magnitudes repeat, as in deltas of bfloat16 models, that is more than `density`.
"""

from __future__ import annotations

import math

from torch import Tensor

from safemerge.methods.common.base import Choice, Method, State
from safemerge.methods.common.consensus import add_consensus, consensus_weights
from safemerge.methods.common.deltas import bytes_of_deltas, keep_deltas
from safemerge.methods.common.sparse import DENSITY, TrimParams, with_window
from safemerge.methods.common.threshold import keep_window, magnitude_at


class TiesParams(TrimParams):
    """Parameters of TIES; see `TrimParams`."""

    normalize: bool = True


def select(state: State, choice: Choice, params: TrimParams) -> State:
    """Find the magnitudes from which on entries are kept.

    Args:
        state: `deltas` (n_sources, *shape).
        choice: `density` of every source, in [0, 1]; above 0 at least one entry is kept.
        params: `rescale`.

    Returns:
        The state with `low`, `high` and `factor`, each (n_sources,).
    """
    deltas = state["deltas"]
    densities = choice.per_source["density"]
    low = [_floor(delta, density) for delta, density in zip(deltas, densities, strict=True)]
    return with_window(deltas, low, [math.inf] * len(low), params)


def _floor(delta: Tensor, density: float) -> float:
    if density >= 1.0 or delta.numel() == 0:
        return 0.0
    if density <= 0.0:
        return math.inf
    kept = max(1, int(density * delta.numel()))
    return magnitude_at(delta, [delta.numel() - kept])[0]


def weigh(state: State, weights: Tensor, params: TrimParams) -> Tensor:
    """Coefficients of the kept deltas and of the divisor; weights (n_sources,) are any finite."""
    return consensus_weights(weights, state["factor"], params.scale)


def combine(base: Tensor, state: State, coefficients: Tensor, params: TrimParams) -> Tensor:
    """Merge what agrees.

    Args:
        base: any shape.
        state: what `select` returned.
        coefficients: what `weigh` returned.
        params: `normalize`.
    """
    kept = keep_window(state["deltas"], state["low"], state["high"])
    return add_consensus(base, kept, coefficients, params.normalize)


METHOD = Method(
    name="ties",
    source="2306.01708; methods.md 4.5",
    params=TiesParams,
    prepare=keep_deltas,
    select=select,
    weigh=weigh,
    combine=combine,
    entrywise=("deltas",),
    footprint=bytes_of_deltas,
    per_source={"density": DENSITY},
)
