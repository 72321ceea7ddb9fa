"""Damp the part of each delta that lies inside the alignment subspace.

A closed-form stand-in for the subspace term of AlignMerge (Roy et al. 2025, 2512.16245), which
optimises instead.
With U_k (out, k), V_k (in, k) the leading singular vectors of the aligned source's delta:

    P(D)  = U_k U_k' D V_k V_k'
    theta = base + scale * sum_i w_i (D_i - rho_i P(D_i)),  rho = 0 for the aligned source

P is the orthogonal projector onto the matrices whose columns lie in the span of U_k and whose rows
lie in that of V_k: the motions that strengthen, weaken or undo what alignment changed. What reads
other inputs or writes other outputs is left alone. P(D_i) = U_k C_i V_k' with C_i the leading k x k
block of U'D_i V, taken once, so a trial takes no SVD whatever its ranks. Everything that is not a
matrix, and embeddings, are task arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safemerge.methods import task_arithmetic
from safemerge.methods.common.method import Method, Selection, Site, Span, State
from safemerge.methods.common.params import Aligned
from safemerge.methods.common.ranks import RankLimited, bytes_held, kept_rank
from safemerge.methods.common.weighted_sum import add_deltas

# Share of the rank that counts as alignment where a recipe does not say: a tenth, which of a delta
# that has nothing to do with alignment holds a hundredth.
_RANK_RATIO = 0.1


class AlignmentGuardParams(Aligned, RankLimited):
    """Parameters of the alignment guard; see `Aligned` and `RankLimited`."""


def prepare(base: Tensor, deltas: Tensor, params: AlignmentGuardParams, site: Site) -> State:
    """Factorise the aligned source's delta and turn the others into its basis.

    Returns:
        `deltas` (n_sources, out, in); `u` (out, c), `v` (in, c), the triplets that were computed;
        `core` (n_sources, c, c) = U'D_i V, zero for the aligned source.
    """
    aligned = params.index(site.sources)
    factors = site.svd(deltas[aligned], params.computed_rank(base))
    core = torch.stack([factors.u.T @ delta @ factors.v for delta in deltas])
    core[aligned] = 0.0
    return {"deltas": deltas, "u": factors.u, "v": factors.v, "core": core}


def select(state: State, selection: Selection, params: AlignmentGuardParams) -> State:
    """Cut to the leading directions and damp by source.

    Args:
        selection: `rank_ratio`, the share k / min(out, in), a tenth by default; `rho` by source.

    Returns:
        `deltas`; `u` (out, k), `v` (in, k); `core` (n_sources, k, k) = rho_i C_i.
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
