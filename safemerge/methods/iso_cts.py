"""Iso-CTS: a common subspace and a few directions of each source beside it, all equally strong.

Source: Marczak et al. 2025 (2502.04959). With weighted deltas w_i D_i, D their sum, and
r = min(out, in):

    k = r - (nearest multiple of T to (1 - common) r)       rank of the common part
    U_c, S_c, V_c: the k leading triplets of D
    U_i, S_i, V_i: the (r - k) / T leading triplets of w_i D_i - U_c U_c' w_i D_i
    U = [U_1 ... U_T U_c], V and S likewise
    theta = base + scale * mean(S) polar(U) polar(V)'

Where out <= in, U_i is found in the orthogonal complement of U_c, whose basis the decomposition of
D gives. The directions turn where singular values cross, so there is no gradient.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from safemerge.factors import Factors
from safemerge.methods import iso_c
from safemerge.methods.common.method import State
from safemerge.methods.common.params import Scaled
from safemerge.methods.common.polar import FLOOR, polar
from safemerge.methods.common.ranks import bytes_held
from safemerge.methods.common.span import out_of_span


class IsoCtsParams(Scaled):
    """`common` is the share of the rank that is common, in [0, 1]; 1 is Iso-C."""

    common: float = Field(default=0.8, ge=0.0, le=1.0)


@torch.no_grad()
def combine(base: Tensor, state: State, weights: Tensor, params: IsoCtsParams) -> Tensor:
    r, T = min(base.shape), len(weights)
    each = own_rank(r, T, params.common)
    total = torch.tensordot(weights, state["deltas"], dims=1).double()
    common, outside = _leading(total, r - each * T, total.norm())
    parts = []
    for weight, unweighted in zip(weights, state["deltas"], strict=True):
        delta = weight * unweighted.double()
        if outside is None:
            residual = delta - common.u @ (common.u.T @ delta)
            parts.append(_leading(residual, each, delta.norm())[0])
        else:
            inside, _ = _leading(outside.T @ delta, each, delta.norm())
            parts.append(replace(inside, u=outside @ inside.u))
    # The columns of U_i are orthogonal to those of U_c, which are orthonormal already.
    left = torch.cat([polar(torch.cat([part.u for part in parts], dim=1)), common.u], dim=1)
    right = polar(torch.cat([*(part.v for part in parts), common.v], dim=1))
    mean = torch.cat([*(part.s for part in parts), common.s]).sum() / max(r, 1)
    directions = left.float() @ right.float().T
    merged: Tensor = base.float() + out_of_span(state, (params.scale * mean).float() * directions)
    return merged


def own_rank(rank: int, n_sources: int, common: float) -> int:
    """Triplets of each source beside the common ones: the nearest whole number that fits."""
    return min(round((1.0 - common) * rank / n_sources), rank // n_sources)


def _leading(matrix: Tensor, k: int, size: Tensor) -> tuple[Factors, Tensor | None]:
    """The k leading triplets of a matrix (out, in), in float64; zero where they are nothing beside
    `size`, the norm of the delta that it is a part of.

    Also a basis (out, out - k) of what is orthogonal to u, where out <= in; else None.
    """
    out, into = matrix.shape
    if out > into:
        turned, _ = _leading(matrix.T, k, size)
        return Factors(turned.v, turned.s, turned.u), None
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    values, vectors = values.flip(0), vectors.flip(1)
    kept = values[:k] > (FLOOR * size) ** 2
    s = torch.where(kept, values[:k], 0.0).sqrt()
    inverse = torch.where(kept, values[:k], 1.0).rsqrt() * kept
    u, v = vectors[:, :k] * kept, matrix.T @ (vectors[:, :k] * inverse)
    return Factors(u, s, v), vectors[:, k:]


METHOD = replace(
    iso_c.METHOD,
    name="iso_cts",
    params=IsoCtsParams,
    combine=combine,
    # All in float64: sum, residual, own and common directions; their decompositions.
    footprint=bytes_held(1, whole=18, squares=18),
    differentiable=False,
)
