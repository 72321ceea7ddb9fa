"""Polar factor of a matrix without an SVD, differentiable everywhere.

With A = U S V', the polar factor is U V' = U S^(-1) U' A, from the eigenvectors of the Gram matrix
of the short side, in float64. Singular values below `FLOOR` are left out, so that it is a partial
isometry: a LoRA's product added to float32 weights leaves noise of up to 4e-7, which would count as
much as all the rest. The derivative divides by sums s_i + s_j, where differentiating through an
eigendecomposition divides by differences and fails at ties.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FLOOR = 3e-6
"""Singular values below this share of the largest one count as zero."""


def polar(matrix: Tensor) -> Tensor:
    """U V' of a matrix (out, in) = U S V', float32 or float64; of zero it is zero."""
    if matrix.shape[0] > matrix.shape[1]:
        return polar(matrix.T).T
    if matrix.numel() == 0:
        return matrix.clone()
    factor: Tensor = _Polar.apply(matrix)  # type: ignore[no-untyped-call]  # torch has no types for it
    return factor


class _Polar(torch.autograd.Function):
    """For matrices (m, n) with m <= n."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        exact = matrix.double()
        values, u = torch.linalg.eigh(exact @ exact.T)
        kept = values > FLOOR**2 * values[-1]
        s = torch.where(kept, values, 0.0).sqrt()
        inverse = torch.where(kept, values, 1.0).rsqrt() * kept
        vh = inverse[:, None] * (u.T @ exact)
        ctx.save_for_backward(u, s, inverse, vh)
        factor: Tensor = u.to(matrix.dtype) @ vh.to(matrix.dtype)
        return factor

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """The adjoint of d(U V') = U [K o (U'dA V - V'dA'U)] V' + U S^(-1) U'dA (I - V V').

        K_ij = 1 / (s_i + s_j); the map is its own adjoint.
        """
        u, s, inverse, vh = ctx.saved_tensors
        rotated = u.T @ grad.double()  # (m, n)
        inner = rotated @ vh.T  # (m, m)
        sums = s[:, None] + s
        kept = (s > 0)[:, None] & (s > 0)
        inside = torch.where(kept, (inner - inner.T) / torch.where(kept, sums, 1.0), 0.0)
        outside = inverse[:, None] * (rotated - inner @ vh)
        gradient: Tensor = (u @ (inside @ vh + outside)).to(grad.dtype)
        return gradient
