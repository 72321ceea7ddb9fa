"""Damp the part of each delta that lies inside the alignment subspace.

A closed-form stand-in for the subspace term of AlignMerge (Roy et al. 2025, 2512.16245), which
optimises instead. With U_k, V_k the leading singular vectors of the aligned source's delta:

    P(D)  = U_k U_k' D V_k V_k'
    theta = base + scale * sum_i w_i (D_i - rho_i P(D_i)),  rho = 0 for the aligned source

P(D_i) = U_k C_i V_k' with C_i the leading k x k block of U'D_i V, taken once: a trial takes no SVD.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safemerge.methods import task_arithmetic
from safemerge.methods.common.method import Method, Selection, Site, Span, State
from safemerge.methods.common.params import Aligned
from safemerge.methods.common.ranks import RankLimited, bytes_held, kept_rank
from safemerge.methods.common.weighted_sum import add_deltas

_RANK_RATIO = 0.1  # where a recipe does not say; of an unrelated delta it holds a hundredth


class AlignmentGuardParams(Aligned, RankLimited):
    """See `Aligned` and `RankLimited`."""


def prepare(base: Tensor, deltas: Tensor, params: AlignmentGuardParams, site: Site) -> State:
    """The aligned source's triplets `u` (out, c) and `v` (in, c); `deltas` (n_sources, out, in);
    and `core` (n_sources, c, c) = U'D_i V, zero for the aligned source.
    """
    aligned = params.index(site.sources)
    factors = site.svd(deltas[aligned], params.computed_rank(base))
    core = torch.stack([factors.u.T @ delta @ factors.v for delta in deltas])
    core[aligned] = 0.0
    return {"deltas": deltas, "u": factors.u, "v": factors.v, "core": core}


def select(state: State, selection: Selection, params: AlignmentGuardParams) -> State:
    """Cut to k of min(out, in) directions, by `rank_ratio`, and damp by `rho`.

    Returns `deltas`; `u` (out, k), `v` (in, k); `core` (n_sources, k, k) = rho_i C_i.
    """
    u, v, core = state["u"], state["v"], state["core"]
    ratio = _RANK_RATIO if selection.rank_ratio is None else selection.rank_ratio
    k = kept_rank(min(u.shape[0], v.shape[0]), 1, ratio)
    rho = torch.tensor(selection.per_source["rho"], dtype=core.dtype, device=core.device)
    damped = rho[:, None, None] * core[:, :k, :k]
    return {"deltas": state["deltas"], "u": u[:, :k], "v": v[:, :k], "core": damped}


def combine(base: Tensor, state: State, weights: Tensor, params: AlignmentGuardParams) -> Tensor:
    """Task arithmetic less the damped part."""
    added = add_deltas(base, state, task_arithmetic.weigh(state, weights, params), params)
    core = torch.tensordot(params.scale * weights, state["core"], dims=1)
    guarded: Tensor = added - state["u"] @ core @ state["v"].T
    return guarded


METHOD = Method(
    name="alignment_guard",
    params=AlignmentGuardParams,
    prepare=prepare,
    select=select,
    combine=combine,
    elsewhere={"vector": task_arithmetic.METHOD, "embedding": task_arithmetic.METHOD},
    per_source={"rho": Span(default=1.0, low=0.0, high=1.0)},
    # Delta and core of each source, and a product; the aligned source's factors and their work.
    footprint=bytes_held(3, whole=5, squares=5),
    spectral=True,
    prepare_key=lambda params: (params.aligned, params.rank_limit),
)
