"""NearSwap: move towards the sources where they are near the base, by a step of at most t.

Source: alchemonaut 2024, QuartetAnemoi-70B-t0.0001, in mergekit's form `nearswap`, which has one
source and weight 1. Entry by entry:

    theta = base + scale * sum_i w_i min(1, t_i / max(|D_i|, 1e-6)) D_i
"""

from __future__ import annotations

import torch
from torch import Tensor

from safemerge.methods.common.method import Method, Selection, Span, State
from safemerge.methods.common.params import Scaled
from safemerge.methods.common.weighted_sum import bytes_of_deltas, keep_deltas

_LEAST = 1e-6  # mergekit's: a smaller difference counts as that large


def select(state: State, selection: Selection, params: Scaled) -> State:
    """The state with the most that an entry moves, `t` (n_sources,)."""
    return {**state, "t": torch.tensor(selection.per_source["t"])}


def combine(base: Tensor, state: State, weights: Tensor, params: Scaled) -> Tensor:
    deltas = state["deltas"]
    t = state["t"].to(deltas).reshape(-1, *[1] * (deltas.dim() - 1))
    moved = deltas * (t / deltas.abs().clamp_min(_LEAST)).clamp_max(1.0)
    merged: Tensor = base.float() + torch.tensordot(params.scale * weights, moved, dims=1)
    return merged


METHOD = Method(
    name="nearswap",
    params=Scaled,
    prepare=keep_deltas,
    select=select,
    combine=combine,
    piecewise=True,
    entrywise=("deltas",),
    footprint=bytes_of_deltas,
    per_source={"t": Span(default=1e-3, low=0.0, high=10.0)},
    one_source_is_itself=False,
)
