"""RAM: entries that several sources change are averaged, those of one source are taken whole.

Source: Reinforced Agent Merging, 2601.13572, in mergekit's form `ram`, which has no weights. With
B_i = 1 where |D_i| > epsilon, entry by entry:

    theta = base + scale * sum_i w_i B_i D_i / max(1, sum_j B_j)
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from safemerge.methods.common.method import Method, State
from safemerge.methods.common.params import Scaled
from safemerge.methods.common.weighted_sum import bytes_of_deltas, keep_deltas


class RamParams(Scaled):
    """`epsilon`: up to that size a change counts as none."""

    epsilon: float = Field(default=1e-5, ge=0.0, le=1.0)


def combine(base: Tensor, state: State, weights: Tensor, params: RamParams) -> Tensor:
    deltas = state["deltas"]
    changed = (deltas.abs() > params.epsilon).to(deltas.dtype)
    total = torch.tensordot(params.scale * weights, deltas * changed, dims=1)
    merged: Tensor = base.float() + total / changed.sum(dim=0).clamp_min(1.0)
    return merged


METHOD = Method(
    name="ram",
    params=RamParams,
    prepare=keep_deltas,
    combine=combine,
    piecewise=True,
    entrywise=("deltas",),
    footprint=lambda shape, n_sources: bytes_of_deltas(shape, 2 * n_sources + 2),
)
