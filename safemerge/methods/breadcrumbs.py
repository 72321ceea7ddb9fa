"""Model Breadcrumbs: of every delta, drop the smallest entries and the few largest; add the rest.

Source: Davari and Belilovsky 2312.06795, in mergekit's form (methods.md 4.8). Of n entries
int(gamma n) largest go first, then the smallest until int(density n) are left; where that is not
possible, fewer of the largest go. At density 1 nothing is dropped, at gamma 0 none of the largest.

    theta = base + scale * sum_i w_i D'_i            (divided by sum_i w_i with `normalize`)

Entries as large as the smallest or largest kept one are kept too; see ties.py.
"""

from __future__ import annotations

import math

from torch import Tensor

from safemerge.methods.common.base import Choice, Method, Span, State
from safemerge.methods.common.deltas import add_deltas, bytes_of_deltas, keep_deltas
from safemerge.methods.common.sparse import DENSITY, TrimParams, sum_weights, with_window
from safemerge.methods.common.threshold import keep_window, magnitude_at


def select(state: State, choice: Choice, params: TrimParams) -> State:
    """Find the magnitudes between which entries are kept.

    Args:
        state: `deltas` (n_sources, *shape).
        choice: `density`, in [0, 1], and `gamma`, in [0, 1], of every source.
        params: `rescale`.

    Returns:
        The state with `low`, `high` and `factor`, each (n_sources,).
    """
    deltas = state["deltas"]
    numbers = zip(choice.per_source["density"], choice.per_source["gamma"], strict=True)
    windows = [_window(delta, *own) for delta, own in zip(deltas, numbers, strict=True)]
    return with_window(deltas, [low for low, _ in windows], [high for _, high in windows], params)


def _window(delta: Tensor, density: float, gamma: float) -> tuple[float, float]:
    count = delta.numel()
    if density >= 1.0 or count == 0:
        return 0.0, math.inf
    kept = int(density * count)
    if kept == 0:
        return math.inf, math.inf
    smallest = max(0, count - kept - int(gamma * count))
    low, high = magnitude_at(delta, [smallest, smallest + kept - 1])
    return low, high


def weigh(state: State, weights: Tensor, params: TrimParams) -> Tensor:
    """Coefficients of base and kept deltas; weights (n_sources,) are any finite."""
    return sum_weights(weights, state["factor"], params.scale, params.normalize)


def combine(base: Tensor, state: State, coefficients: Tensor, params: TrimParams) -> Tensor:
    """Add what is kept.

    Args:
        base: any shape.
        state: what `select` returned.
        coefficients: what `weigh` returned.
        params: unused.
    """
    kept = keep_window(state["deltas"], state["low"], state["high"])
    return add_deltas(base, {"deltas": kept}, coefficients, params)


METHOD = Method(
    name="breadcrumbs",
    source="2312.06795; methods.md 4.8",
    params=TrimParams,
    prepare=keep_deltas,
    select=select,
    weigh=weigh,
    combine=combine,
    entrywise=("deltas",),
    footprint=bytes_of_deltas,
    per_source={"density": DENSITY, "gamma": Span(default=0.01, low=0.0, high=1.0, start=0.0)},
)
