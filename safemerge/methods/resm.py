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

A further mode takes what is large for signal, after the polarized scaling of ESM (CVPR 2026):

    polarize: (norm / mean norm)^2, in [0.25, 4], at three levels, multiplied: of |D_i| among the
              sources, of s_j among the kept triplets of a source, and of |(D_1, ..., D_T)| among
              the matrices of that module type

`ranks` chooses the rule for k: "density" as above, "even" and "threshold" as in tsvm.py.
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
from safemerge.methods.common.method import Measured, Selection, Site, State
from safemerge.methods.common.ranks import RankLimited, kept_rank
from safemerge.methods.hard_threshold import check_rank_rule
from safemerge.recipe import Recipe

_EPS = 1e-3  # keeps 1/q finite; small beside the mass shares of real outliers (0.02 and more)
_WEIGHT_RANGE = (0.25, 4.0)
_LEAST_RANK_FRAC = 0.01


Outliers = Literal["none", "favour", "suppress", "clip", "polarize"]


class ResmParams(RankLimited):
    """Beside `RankLimited`: the letters of the formulas above."""

    outliers: Outliers = "none"
    kappa: float = Field(default=3.0, gt=0.0, le=100.0)
    tau: float = Field(default=0.1, ge=0.0, le=10.0)
    ranks: Literal["density", "even", "threshold"] = "density"

    def check_against(self, recipe: Recipe) -> None:
        super().check_against(recipe)
        check_rank_rule(recipe, self.ranks, self.rank_limit)


def prepare(base: Tensor, deltas: Deltas, params: ResmParams, site: Site) -> State:
    """TSV-M's state; the share of outlier mass `outlier` and the norm `size` of each source, both
    (T,); `density` and `norm`, two numbers.
    """
    masses, sizes, known = _measured(deltas, params)
    share = torch.stack([outlier_share(mass, params.kappa) for mass in masses])
    clipped = params.outliers == "clip"
    kept = torch.stack([winsorise(d, params.kappa) for d in deltas]) if clipped else deltas
    state = tsvm.prepare(base, kept, params, site)
    # In float32 a rank could fall on the other side.
    density, norm = torch.tensor([known.density, *known.norms], dtype=torch.float64)
    size = share.new_tensor(sizes)
    return {**state, "outlier": share, "size": size, "density": density, "norm": norm}


def measure(deltas: Deltas, params: ResmParams, site: Site) -> Measured:
    """Density: mean over sources of the share of entries above tau times the common root mean
    square; and the norm of all deltas together.
    """
    return _measured(deltas, params)[2]


def _measured(deltas: Deltas, params: ResmParams) -> tuple[list[Tensor], list[float], Measured]:
    """Column masses a_i (in,) and norm of each delta, and what is measured of all; in one pass."""
    entries = sum(math.prod(delta.shape) for delta in deltas)
    sizes = [delta.norm().item() for delta in deltas]
    norm = math.hypot(*sizes)
    least = params.tau * norm / math.sqrt(max(entries, 1))
    masses, present = [], 0
    for delta in deltas:
        sums = []
        for rows in row_blocks(delta):
            size = rows.abs()
            sums.append(size.sum(dim=0))
            present += int((size > least).count_nonzero())
        masses.append(torch.stack(sums).sum(dim=0))
    return masses, sizes, Measured(present / max(entries, 1), (norm,))


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
    if mode not in ("favour", "suppress") or bool((share == 0).all()):
        return torch.ones_like(share)
    raw = share + _EPS if mode == "favour" else 1.0 / (share + _EPS)
    return (raw.numel() * raw / raw.sum()).clamp(*_WEIGHT_RANGE)


def polarized(norm: Tensor, mean: Tensor) -> Tensor:
    """(norm / mean)^2 in [0.25, 4], entry by entry; 1 where the mean is 0."""
    ratio = torch.where(mean > 0, norm / torch.where(mean > 0, mean, 1.0), 1.0)
    return ratio.square().clamp(*_WEIGHT_RANGE)


def select(state: State, selection: Selection, params: ResmParams) -> State:
    """Decorrelate at the rank ratio, else at the rank that `ranks` gives.

    Beside what `tsvm.decorrelate` returns: `outlier` and `size` (T,), and `layer` (), the factor of
    the matrix among those of its module type.
    """
    n_sources, rank = len(state["s"]), tsvm.rank_of(state)
    if params.ranks == "threshold":
        found = tsvm.decorrelate(*tsvm.above_noise(state, selection))
    elif params.ranks == "density" and selection.rank_ratio is None and selection.peak_density:
        kept = density_rank(rank, n_sources, state["density"].item() / selection.peak_density)
        found = tsvm.decorrelate(state, min(kept, rank))
    else:
        found = tsvm.decorrelate(state, kept_rank(rank, n_sources, selection.rank_ratio))
    norm = state["norm"]
    mean = norm if selection.mean_norm is None else norm.new_tensor(selection.mean_norm)
    layer = polarized(norm, mean).to(state["s"].dtype)
    return {**found, "outlier": state["outlier"], "size": state["size"], "layer": layer}


def density_rank(rank: int, n_sources: int, relative_density: float) -> int:
    """Triplets of each source where no ratio is given: floor(r / T) by the relative density.

    At least a hundredth of the rank and 1; at most floor(r / T), or 1 where that is 0.
    """
    most = rank // n_sources
    least = max(1, math.floor(_LEAST_RANK_FRAC * rank))
    return min(max(math.floor(most * relative_density), least), max(most, 1))


def combine(base: Tensor, state: State, weights: Tensor, params: ResmParams) -> Tensor:
    if params.outliers == "polarize":
        s, size = state["s"], state["size"]
        mean = s.sum(dim=1, keepdim=True) / (s > 0).sum(dim=1, keepdim=True).clamp_min(1)
        state = {**state, "s": s * polarized(s, mean)}
        factor = state["layer"] * polarized(size, size.mean())
    else:
        factor = outlier_weights(state["outlier"], params.outliers)
    return tsvm.combine(base, state, weights * factor, params)


METHOD = replace(
    tsvm.METHOD,
    name="resm",
    params=ResmParams,
    prepare=prepare,
    select=select,
    combine=combine,
    measure=measure,
    prepare_key=lambda p: (p.outliers == "clip", p.kappa, p.tau, p.rank_limit, p.ranks),
)
