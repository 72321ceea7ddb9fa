"""KnOTS with TIES: merge the deltas by TIES in the left singular basis that they have in common.

Source: Stoica et al. 2024 (2410.19735) in the form of their code, designed for LoRA deltas. With
the deltas side by side,

    [D_1 | ... | D_T] = U S [V_1 ... V_T]',   C_i = S V_i' = U' D_i           (r, in)
    theta = base + U TIES(C_1, ..., C_T)

The basis does not hang on the weights, so a trial is TIES and one product.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from safemerge.low_rank import Deltas
from safemerge.methods import ties
from safemerge.methods.common.method import Site, State
from safemerge.methods.common.ranks import bytes_held
from safemerge.methods.ties import TiesParams


def prepare(base: Tensor, deltas: Deltas, params: TiesParams, site: Site) -> State:
    """The common `basis` (out, r) = U, and the `deltas` (n_sources, r, in) = C_i in it."""
    if not isinstance(deltas, Tensor):
        # With A_i' = Q_i R_i, D_i D_i' = (B_i R_i')(B_i R_i')': the left singular vectors are those
        # of the B_i R_i' side by side.
        together = torch.cat([d.b @ torch.linalg.qr(d.a.T, mode="r").R.T for d in deltas], dim=1)
        basis = site.svd(_squared(together)).u
        turned = [(basis.T @ delta.b) @ delta.a for delta in deltas]
        return {"basis": basis, "deltas": torch.stack(turned)}
    side_by_side = deltas[0]
    for delta in deltas[1:]:
        side_by_side = _squared(torch.cat([_squared(side_by_side), delta], dim=1))
    basis = site.svd(_squared(side_by_side)).u
    return {"basis": basis, "deltas": basis.T @ deltas}


def _squared(wide: Tensor) -> Tensor:
    """(out, at most out), with the left singular vectors and values of a matrix (out, width)."""
    out, width = wide.shape
    return wide if width <= out else torch.linalg.qr(wide.T, mode="r").R.T


def combine(base: Tensor, state: State, coefficients: Tensor, params: TiesParams) -> Tensor:
    nothing = torch.zeros_like(state["deltas"][0])
    turned = ties.combine(nothing, state, coefficients, params)
    merged: Tensor = base.float() + state["basis"] @ turned
    return merged


def _footprint(shape: tuple[int, ...], n_sources: int) -> int:
    out, into = shape
    return bytes_held(4, whole=14)(shape, n_sources) + 16 * min(out, n_sources * into) ** 2


METHOD = replace(
    ties.METHOD,
    name="knots_ties",
    prepare=prepare,
    combine=combine,
    entrywise=(),
    low_rank=True,
    elsewhere={"vector": ties.METHOD, "embedding": ties.METHOD},
    footprint=_footprint,
)
