"""RAM+: as RAM, and what a source changes alone grows with how much else it shares with others.

Source: Reinforced Agent Merging, 2601.13572, in mergekit's tensor-local form `ramplus_tl`. With B_i
as in `ram.py`, c = sum_i B_i, and s_i, u_i the numbers of entries of a tensor where B_i = 1 and c >
1, c = 1:

    lambda_i = 1 + r min(alpha, s_i / max(u_i, epsilon))
    theta    = base + scale * sum_i w_i B_i D_i (lambda_i where c = 1, else 1 / c)
"""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from safemerge.methods import ram
from safemerge.methods.common.blocks import blocks
from safemerge.methods.common.method import Site, State


class RamplusParams(ram.RamParams):
    """`r` times at most `alpha` is what is added to the factor 1."""

    r: float = Field(default=0.1, ge=0.0, le=10.0)
    alpha: float = Field(default=0.2, ge=0.0, le=10.0)


def prepare(base: Tensor, deltas: Tensor, params: RamplusParams, site: Site) -> State:
    """Keep the `deltas`, and count the entries that sources change: `counts` (2, n_sources),
    float64, with others and alone.
    """
    flat = deltas.reshape(len(deltas), -1)
    counts = torch.zeros(2, len(deltas), dtype=torch.float64, device=deltas.device)
    for part in blocks(flat.shape[1], deltas.device):
        changed = flat[:, part].abs() > params.epsilon
        together = changed.sum(dim=0)
        counts[0] += (changed & (together > 1)).sum(dim=1)
        counts[1] += (changed & (together == 1)).sum(dim=1)
    return {"deltas": deltas, "counts": counts.cpu()}


def combine(base: Tensor, state: State, weights: Tensor, params: RamplusParams) -> Tensor:
    deltas, (shared, alone) = state["deltas"], state["counts"]
    share = (shared / alone.clamp_min(params.epsilon)).clamp(0.0, params.alpha)
    growth = (1.0 + params.r * share).to(weights)
    changed = deltas.abs() > params.epsilon
    together = changed.sum(dim=0).clamp_min(1)
    kept = deltas * changed
    grown = torch.tensordot(params.scale * weights * growth, kept, dims=1)
    averaged = torch.tensordot(params.scale * weights, kept, dims=1) / together
    return base.float() + torch.where(together == 1, grown, averaged)


METHOD = replace(
    ram.METHOD,
    name="ramplus_tl",
    params=RamplusParams,
    prepare=prepare,
    sums=lambda params: ("counts",),
    combine=combine,
    prepare_key=lambda params: (params.epsilon,),
)
