"""RESM: TSV-M with outlier weights and sparsity-aware ranks, after Yang et al. 2025 (2502.06876).

The paper's abstract gives the two ideas; its formulas were not available, so the ones here are
stand-ins for them, not the paper's. Per matrix and source i, with r = min(out, in):

    a_i[c]  = sum over rows of |D_i[:, c]|                        column mass
    O_i     = columns with a_i[c] > mean + kappa * std            outlier columns
    q_i     = share of the mass that lies in O_i
    favour: w_i = T (q_i + eps) / sum_j (q_j + eps); suppress: with 1 / (q_i + eps); in [0.25, 4]
    clip:   w_i = 1 and |D_i| entry-wise at most mean + kappa * std of |D_i|
    d       = share of entries with |D_i| > tau * rms(D), over all sources        density
    k       = floor(r / T) * d / highest d of that module type, unless a ratio is given
    theta   = TSV-M of the deltas w_i D_i with k triplets of each
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from safemerge.low_rank import Delta, Deltas, dense, row_blocks
from safemerge.methods import tsvm
from safemerge.methods.common.method import Selection, Site, State
from safemerge.methods.common.ranks import RankLimited, kept_rank

_EPS = 1e-3  # keeps 1/q finite; small beside the mass shares of real outliers (0.02 and more)
_WEIGHT_RANGE = (0.25, 4.0)
_LEAST_RANK_FRAC = 0.01


class ResmParams(RankLimited):
    """Beside `RankLimited`: the letters of the formulas above."""

    outliers: Literal["none", "favour", "suppress", "clip"] = "none"
    kappa: float = Field(default=3.0, gt=0.0, le=100.0)
    tau: float = Field(default=0.1, ge=0.0, le=10.0)


def prepare(base: Tensor, deltas: Deltas, params: ResmParams, site: Site) -> State:
    """TSV-M's state, the share of outlier mass `outlier` (T,), and `density` (a number)."""
    masses, present = _measured(deltas, params)
    share = torch.stack([outlier_share(mass, params.kappa) for mass in masses])
    clipped = params.outliers == "clip"
    kept = torch.stack([winsorise(d, params.kappa) for d in deltas]) if clipped else deltas
    state = tsvm.prepare(base, kept, params, site)
    # In float32 a rank could fall on the other side.
    exact = torch.tensor(present, dtype=torch.float64)
    return {**state, "outlier": share, "density": exact}


def density(deltas: Deltas, params: ResmParams) -> float:
    """Mean over sources of the share of entries above tau times the common root mean square."""
    return _measured(deltas, params)[1]


def _measured(deltas: Deltas, params: ResmParams) -> tuple[list[Tensor], float]:
    """Column masses a_i (in,) of each delta, and the density of all; in one pass."""
    entries = sum(math.prod(delta.shape) for delta in deltas)
    rms = math.hypot(*(delta.norm().item() for delta in deltas)) / math.sqrt(max(entries, 1))
    least = params.tau * rms
    masses, present = [], 0
    for delta in deltas:
        sums = []
        for rows in row_blocks(delta):
            size = rows.abs()
            sums.append(size.sum(dim=0))
            present += int((size > least).count_nonzero())
        masses.append(torch.stack(sums).sum(dim=0))
    return masses, present / max(entries, 1)


def outlier_share(mass: Tensor, kappa: float) -> Tensor:
    """Share of the column mass (in,) that lies in outlier columns, a 0-D tensor in [0, 1]."""
    total = mass.sum()
    if mass.numel() < 2 or total.item() == 0.0:
        return torch.zeros_like(total)
    outlying = mass > mass.mean() + kappa * mass.std()
    return (mass * outlying).sum() / total


def winsorise(delta: Delta, kappa: float) -> Tensor:
    """Limit |D| entry-wise to mean + kappa * std of |D|; the sign is kept."""
    whole = dense(delta)
    size = whole.abs()
    if size.numel() < 2:
        return whole
    limit = (size.mean() + kappa * size.std()).item()
    return whole.clamp(-limit, limit)


def outlier_weights(share: Tensor, mode: str) -> Tensor:
    """Factor w_i on each source's weight, (T,), in [0.25, 4]; mean 1 where no bound is met."""
    if mode in ("none", "clip") or bool((share == 0).all()):
        return torch.ones_like(share)
    raw = share + _EPS if mode == "favour" else 1.0 / (share + _EPS)
    return (raw.numel() * raw / raw.sum()).clamp(*_WEIGHT_RANGE)


def select(state: State, selection: Selection, params: ResmParams) -> State:
    """Decorrelate at the rank ratio, else at the density's rank, else at TSV-M's."""
    n_sources, rank = len(state["s"]), tsvm.rank_of(state)
    if selection.rank_ratio is None and selection.peak_density:
        kept = density_rank(rank, n_sources, state["density"].item() / selection.peak_density)
    else:
        kept = kept_rank(rank, n_sources, selection.rank_ratio)
    return {**tsvm.decorrelate(state, min(kept, rank)), "outlier": state["outlier"]}


def density_rank(rank: int, n_sources: int, relative_density: float) -> int:
    """Triplets of each source where no ratio is given: floor(r / T) by the relative density.

    At least a hundredth of the rank and 1; at most floor(r / T), or 1 where that is 0.
    """
    most = rank // n_sources
    least = max(1, math.floor(_LEAST_RANK_FRAC * rank))
    return min(max(math.floor(most * relative_density), least), max(most, 1))


def combine(base: Tensor, state: State, weights: Tensor, params: ResmParams) -> Tensor:
    factor = outlier_weights(state["outlier"], params.outliers)
    return tsvm.combine(base, state, weights * factor, params)


METHOD = replace(
    tsvm.METHOD,
    name="resm",
    params=ResmParams,
    prepare=prepare,
    select=select,
    combine=combine,
    density=density,
    prepare_key=lambda p: (p.outliers == "clip", p.kappa, p.tau, p.rank_limit),
)
