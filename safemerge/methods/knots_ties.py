"""KnOTS with TIES: merge the deltas by TIES in the left singular basis that they have in common.

Source: Stoica et al. 2024 (2410.19735) in the form of their code, designed for LoRA deltas. With
the deltas side by side,

    [D_1 | ... | D_T] = U S [V_1 ... V_T]',   C_i = S V_i' = U' D_i           (r, in)
    theta = base + U TIES(C_1, ..., C_T)

The basis does not hang on the weights, so a trial is TIES and one product. Directions that hold
next to nothing are left out (`safemerge.factors`), where the code has an absolute threshold of
1e-5. Zero sums count as positive, as everywhere here, where the code takes the sign of the
majority. Everything that is not a matrix, and embeddings, are merged by TIES as they are.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from safemerge.methods import ties
from safemerge.methods.common.method import Selection, Site, State
from safemerge.methods.common.ranks import bytes_held
from safemerge.methods.ties import TiesParams

_BLOCK = 1 << 16  # entries of a block of columns, whose temporaries stay in a processor's cache


def prepare(base: Tensor, deltas: Tensor, params: TiesParams, site: Site) -> State:
    """Find the common basis and turn the deltas into it.

    Args:
        base: (out, in); unused.
        deltas: (n_sources, out, in), float32.
        params: unused.
        site: its `svd` gives the basis.

    Returns:
        `basis` (out, r) = U; `deltas` (n_sources, r, in) = C_i.
    """
    side_by_side = deltas[0]
    for delta in deltas[1:]:
        side_by_side = _squared(torch.cat([_squared(side_by_side), delta], dim=1))
    basis = site.svd(_squared(side_by_side)).u
    return {"basis": basis, "deltas": basis.T @ deltas}


def _squared(wide: Tensor) -> Tensor:
    """A matrix (out, at most out) with the left singular vectors and values of one (out, width).

    It takes no more room, however many deltas lie side by side, and nor do its factors.
    """
    out, width = wide.shape
    return wide if width <= out else torch.linalg.qr(wide.T, mode="r").R.T


def select(state: State, selection: Selection, params: TiesParams) -> State:
    """Find what TIES keeps of the turned deltas; see `ties.select`."""
    return {**ties.select(state, selection, params), "basis": state["basis"]}


def combine(base: Tensor, state: State, coefficients: Tensor, params: TiesParams) -> Tensor:
    """Merge in the common basis and turn back.

    Args:
        base: (out, in).
        state: what `select` returned.
        coefficients: what `ties.weigh` returned.
        params: `normalize`.
    """
    rank, into = state["deltas"].shape[1:]
    step = max(1, _BLOCK // max(rank, 1))
    merged = []
    for start in range(0, into, step):
        columns = slice(start, start + step)
        block = {**state, "deltas": state["deltas"][:, :, columns]}
        nothing = torch.zeros_like(block["deltas"][0])
        merged.append(state["basis"] @ ties.combine(nothing, block, coefficients, params))
    return base.float() + (torch.cat(merged, dim=1) if merged else 0.0)


def _footprint(shape: tuple[int, ...], n_sources: int) -> int:
    """Tensors for each source and beside, and the decomposition of a matrix of the basis's side."""
    out, into = shape
    return bytes_held(3, whole=5)(shape, n_sources) + 16 * min(out, n_sources * into) ** 2


METHOD = replace(
    ties.METHOD,
    name="knots_ties",
    prepare=prepare,
    select=select,
    combine=combine,
    entrywise=(),
    elsewhere={"vector": ties.METHOD, "embedding": ties.METHOD},
    footprint=_footprint,
)
