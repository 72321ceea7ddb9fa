"""Singular factors of a delta, computed once and kept on disk under a content hash.

Trailing triplets that hold less than 3e-6 of a delta in the Frobenius norm are no part of it: their
directions are arbitrary, and TSV-M or Iso-C would merge noise. Three ways to the same triplets:

- of low rank, found out by one random projection: within those 3e-6;
- randomised, where an eighth of them at most is asked for: subspace iteration (Halko et al. 2011,
  0909.4061, algorithm 4.4), dropped where its error is not under 1e-3 (flat spectra, ties);
- exact, by LAPACK in float32, for all else.

A delta that is given as a product B A takes two thin QRs and an SVD of its rank's size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from safemerge.low_rank import Delta, LowRank
from safemerge.store import TensorStore, content_key

FACTORS_VERSION = 2
"""Of the results of `factorise`: another one leaves the files of this one unused."""

_SMALL = 256  # of this short a side a full SVD takes no time worth saving
_LEADING_FRAC = 1 / 8  # up to this share of the rank the randomised ways are tried
_STEPS = 8  # of subspace iteration; a try that fails ends after three: a fifth of the exact way
_PROBES = 32
_ERROR = 1e-3  # relative Frobenius error of the kept part
_NOTHING = 3e-6  # a LoRA's product added to float32 weights leaves 1.5e-6 beside it


@dataclass(frozen=True, slots=True)
class Factors:
    """Singular triplets of a delta, the leading ones first: delta = u @ diag(s) @ v.T.

    Args:
        u: left singular vectors, (out, r), float32, columns orthonormal.
        s: singular values, (r,), float32, descending; a zero delta has r = 0.
        v: right singular vectors, (in, r), float32, columns orthonormal.
    """

    u: Tensor
    s: Tensor
    v: Tensor

    def leading(self, rank: int) -> Factors:
        """The first `rank` triplets, or all where there are fewer."""
        return Factors(
            self.u[:, :rank].contiguous(), self.s[:rank].clone(), self.v[:, :rank].contiguous()
        )


class Factoriser(Protocol):
    """`factorise`, or that behind a store."""

    def __call__(self, delta: Delta, rank: int | None = None) -> Factors: ...


def factorise(delta: Delta, rank: int | None = None) -> Factors:
    """Thin SVD in float32 (half precision has none: mergekit issue 304).

    Args:
        delta: (out, in), any floating dtype, or its factors.
        rank: how many leading triplets are wanted, at least 1; None is all min(out, in).

    Returns:
        `rank` triplets, fewer where the delta has fewer; the same bits each time. All: within 3e-6
        of the delta. Leading ones: their product within 1e-3 of the exact one's (Frobenius norm).
    """
    if isinstance(delta, LowRank):
        product = _of_product(delta)
        return product if rank is None else product.leading(rank)
    matrix = delta.float()
    short, factors = min(matrix.shape), None
    if rank is not None and short > _SMALL and rank <= _LEADING_FRAC * short:
        factors = _leading(matrix, rank)
    if factors is None:
        factors = low_rank(matrix)
    if factors is None:
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        factors = Factors(u, s, vh.T)
    trimmed = _trimmed(factors)
    return trimmed if rank is None else trimmed.leading(rank)


def _trimmed(factors: Factors) -> Factors:
    """Without the trailing triplets that hold next to nothing."""
    tail = factors.s.double().square().flip(0).cumsum(0).flip(0).sqrt()  # norm from each one on
    return factors.leading(int((tail > _NOTHING * tail[:1]).sum().item()))


def low_rank(delta: Delta) -> Factors | None:
    """All triplets of a delta (out, in) of low rank, by one random projection, within 3e-6.

    None where its rank is above an eighth of the shorter side, or a full SVD as good; never of a
    product.
    """
    if isinstance(delta, LowRank):
        return _of_product(delta)
    matrix = delta.float()
    if min(matrix.shape) <= _SMALL:
        return None
    left = torch.linalg.qr(matrix @ _random(matrix, int(_LEADING_FRAC * min(matrix.shape)))).Q
    inner = left.T @ matrix
    size = matrix.norm()
    # The first test saves the second one's product where the rank is far from low.
    if inner.norm() < 0.999 * size or (matrix - left @ inner).norm() > _NOTHING * size:
        return None
    return _trimmed(_within(left, inner))


def _of_product(delta: LowRank) -> Factors:
    """All triplets of B A: with B = Q R, those of R A within the span of Q."""
    left, r = torch.linalg.qr(delta.b)
    return _trimmed(_within(left, r @ delta.a))


def _within(left: Tensor, inner: Tensor) -> Factors:
    """Factors of left @ inner, where left (out, k) has orthonormal columns and inner is (k, in)."""
    right, r = torch.linalg.qr(inner.T)
    u, s, vh = torch.linalg.svd(r.T)
    return Factors(left @ u, s, right @ vh.T)


def _random(matrix: Tensor, size: int) -> Tensor:
    """Gaussian vectors (in, size), the same for every matrix, call and device."""
    random = torch.Generator().manual_seed(0)  # on the CPU
    return torch.randn(matrix.shape[1], size, generator=random).to(matrix.device)


def _leading(matrix: Tensor, rank: int) -> Factors | None:
    """Leading triplets by subspace iteration, or None where they do not settle.

    The kept part K_t = U_t S_t V_t' of step t is compared with the step before on 32 random
    vectors, which estimates |K_t - K_(t-1)| without forming it. Changes that shrink by a factor q
    a step leave an error of q / (1 - q) times the last one. That, or the last change where it is
    more, has to be under half of the bound: the estimate varies by a third.
    """
    size = min(rank + max(16, rank // 2), *matrix.shape)
    vectors = _random(matrix, size + _PROBES)
    probe = vectors[:, size:]
    left = torch.linalg.qr(matrix @ vectors[:, :size]).Q  # (out, size)
    image = change = None
    for remaining in reversed(range(_STEPS)):
        current = _within(left, left.T @ matrix)
        kept = current.leading(rank)
        before, image = image, kept.u @ (kept.s[:, None] * (kept.v.T @ probe))
        if before is not None:
            last = change
            change = ((image - before).norm() / image.norm().clamp_min(1e-30)).item()
            shrink = change / last if last else float(change > 0.0)
            error = change * max(1.0, shrink / (1.0 - shrink)) if shrink < 1.0 else math.inf
            if error <= _ERROR / 2:
                return kept
            if last is not None and change * shrink**remaining > _ERROR:
                return None  # it will not settle in time
        left = torch.linalg.qr(matrix @ current.v).Q
    return None


def factoriser(store: TensorStore | None) -> Factoriser:
    """`factorise`, or in front of it a store that keeps what was factorised before.

    A file is found by the SHA-256 of the delta itself, so it serves every run, method and set of
    sources in which that delta occurs, and can never be stale.
    """
    if store is None:
        return factorise

    def factors(delta: Delta, rank: int | None = None) -> Factors:
        if isinstance(delta, LowRank):  # sooner factorised than found
            return factorise(delta, rank)

        def compute() -> dict[str, Tensor]:
            computed = factorise(delta, rank)
            return {"u": computed.u, "s": computed.s, "v": computed.v}

        key = content_key({"delta": delta.float()}, (FACTORS_VERSION, rank))
        return Factors(**store.kept(key, compute, delta.device))

    return factors
