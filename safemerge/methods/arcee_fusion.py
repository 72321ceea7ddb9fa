"""Arcee Fusion: take over the entries of outstanding importance, leave the rest to the base.

Source: mergekit's `arcee_fusion` (Arcee AI), which has one source and weight 1. Per tensor and
source, with p and q the softmax over a row of theta_i and of the base, plus 1e-8 each:

    s = |D_i| KL(p || q)        M = s >= median(s) + 1.5 (Q3(s) - Q1(s))
    theta = base + scale * sum_i w_i M_i D_i

The quantile of share q is the entry floor(q (n - 1)) in order. mergekit takes quantiles of a random
million of entries where there are more; here they are of all.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from safemerge.methods.common.method import Method, Site, State
from safemerge.methods.common.params import Scaled
from safemerge.methods.common.weighted_sum import bytes_of_deltas

_LEAST_SHARE = 1e-8  # mergekit's, added to p and q


def prepare(base: Tensor, deltas: Tensor, params: Scaled, site: Site) -> State:
    """What of the deltas is taken over, `kept` (n_sources, *shape), with what decides it: `kl`
    (n_sources, rows) and `least` (n_sources,).
    """
    rows = base.float().reshape(-1, _columns(base, site))
    kl = torch.stack([_divergence(rows, delta.reshape(rows.shape)) for delta in deltas])
    least = [_threshold(scores) for scores in _importance(deltas, kl, 0, rows.shape[1])]
    state = {"kl": kl, "least": torch.tensor(least)}
    return {**state, **entries(base, deltas, state, site)}


def entries(base: Tensor, deltas: Tensor, state: State, site: Site) -> State:
    scores = _importance(deltas, state["kl"], site.begin, _columns(base, site))
    taken = scores >= state["least"].to(scores)[:, None]
    return {"kept": deltas * taken.reshape(deltas.shape)}


def _columns(base: Tensor, site: Site) -> int:
    return site.columns or [1, *base.shape][-1] or 1


def _divergence(base: Tensor, delta: Tensor) -> Tensor:
    """KL(p || q) of rows (rows, columns), float32: its last digits count, as they do there."""
    p = (base + delta).softmax(dim=-1) + _LEAST_SHARE
    q = base.softmax(dim=-1) + _LEAST_SHARE
    return (p * (p / q).log()).sum(dim=-1)


def _importance(deltas: Tensor, kl: Tensor, begin: int, columns: int) -> Tensor:
    """s of consecutive entries from `begin` on, (n_sources, entries)."""
    flat = deltas.reshape(len(deltas), -1)
    row = torch.arange(begin, begin + flat.shape[1], device=flat.device) // columns
    return flat.abs() * kl.to(flat.device)[:, row]


def _threshold(scores: Tensor) -> float:
    if not scores.numel():
        return 0.0
    at = [int(share * (scores.numel() - 1)) for share in (0.25, 0.5, 0.75)]
    values = np.partition(scores.cpu().numpy(), at)[at]  # float32, as the sum below
    return float(values[1] + np.float32(1.5) * (values[2] - values[0]))


def combine(base: Tensor, state: State, weights: Tensor, params: Scaled) -> Tensor:
    # Of many a tensor nothing is taken, where a slope of 0 would say nothing to a warm start.
    own = params.scale * weights.detach()
    merged: Tensor = base.float() + torch.tensordot(own, state["kept"], dims=1)
    return merged


METHOD = Method(
    name="arcee_fusion",
    params=Scaled,
    prepare=prepare,
    combine=combine,
    entrywise=("kept",),
    entries=entries,
    footprint=lambda shape, n_sources: bytes_of_deltas(shape, 3 * n_sources + 5),
    one_source_is_itself=False,
    differentiable=False,
)
