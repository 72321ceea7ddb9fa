"""Model Breadcrumbs: of every delta, drop the smallest entries and the few largest; add the rest.

Source: Davari and Belilovsky 2023 (2312.06795), in mergekit's form. Of a tensor of n entries,
int(gamma n) largest go first, then the smallest until int(density n) are left; where that is not
possible, fewer of the largest go. What equals the smallest or largest kept entry is kept too.

    D'_i  = D_i where low_i <= |D_i| <= high_i, else 0
    theta = base + scale * sum_i w_i D'_i            (divided by sum_i w_i with `normalize`)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from safemerge.methods.common.method import Method, Selection, Span, State
from safemerge.methods.common.sparse import DENSITY, TrimParams, add_kept, weigh, with_sizes
from safemerge.methods.common.threshold import magnitude_at
from safemerge.methods.common.weighted_sum import bytes_of_deltas, keep_deltas


def select(state: State, selection: Selection, params: TrimParams) -> State:
    """The state with `low` and `high` (n_sources,), between which entries are kept by `density` and
    `gamma`, and `sizes` (2, n_sources).
    """
    numbers = zip(selection.per_source["density"], selection.per_source["gamma"], strict=True)
    windows = [_window(delta, *own) for delta, own in zip(state["deltas"], numbers, strict=True)]
    low, high = torch.tensor(windows).T
    return with_sizes({**state, "low": low, "high": high}, params)


def _window(delta: Tensor, density: float, gamma: float) -> tuple[float, float]:
    """The least and the largest magnitude that is kept; infinities where nothing is."""
    count = delta.numel()
    if density >= 1.0 or count == 0:
        return 0.0, math.inf
    kept = int(density * count)
    if kept == 0:
        return math.inf, math.inf
    smallest = max(0, count - kept - int(gamma * count))
    low, high = magnitude_at(delta, [smallest, smallest + kept - 1])
    return low, high


METHOD = Method(
    name="breadcrumbs",
    params=TrimParams,
    prepare=keep_deltas,
    select=select,
    weigh=weigh,
    combine=add_kept,
    entrywise=("deltas",),
    footprint=bytes_of_deltas,
    per_source={"density": DENSITY, "gamma": Span(default=0.01, low=0.0, high=1.0, start=0.0)},
)
