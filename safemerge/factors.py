"""Singular factors of a delta, computed once and kept on disk under a content hash.

Trailing triplets that hold less than 3e-6 of a delta in the Frobenius norm are no part of it: their
directions are arbitrary, and methods that make directions count whatever their singular value
(TSV-M, Iso-C) would merge noise. So a LoRA of rank 16 has 16 triplets.

Four ways to the same triplets, ours in their choice:

- of low rank, found out by one random projection: within those 3e-6;
- exact, by LAPACK in float32;
- exact, by the Gram matrix of the short side in float64, twice as fast on long matrices. A Gram
  matrix squares the condition, so it is taken only where the smallest singular value is above
  1e-5 of the largest: columns are then orthonormal to 1e-6, like LAPACK's in float32;
- randomised, where only leading triplets are asked for, an eighth of them at most: subspace
  iteration, with the error of the kept part measured from step to step. Where it is not under 1e-3
  (flat spectra, ties at the cut), the exact way is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from safemerge.store import TensorStore, content_key

_SMALL = 256  # a full SVD of this short a side takes 10 ms; nothing else is worth its while
_LONG = 1.5  # sides' ratio from which the Gram matrix in float64 beats LAPACK in float32 (measured)
_GRAM_FLOOR = 1e-10  # least eigenvalue of the Gram matrix over the largest
_LEADING_FRAC = 1 / 8  # up to this share of the rank the randomised ways are tried
_STEPS = 8  # of subspace iteration; a try that fails ends after three: a fifth of the exact way
_PROBES = 32
_ERROR = 1e-3  # relative Frobenius error of the kept part
_NOTHING = 3e-6  # a LoRA's product added to float32 weights leaves 1.5e-6 beside it (measured)
_VERSION = 1  # of the results of `factorise`: another one leaves the files of this one unused


@dataclass(frozen=True, slots=True)
class Factors:
    """Singular triplets of a delta, the leading ones first: delta = u @ diag(s) @ v.T.

    Worked shape: a delta (out, in) = (128, 384) of full rank has u (128, 128), s (128,),
    v (384, 128). A zero delta has r = 0.

    Args:
        u: left singular vectors, (out, r), float32, columns orthonormal.
        s: singular values, (r,), float32, descending.
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
    """Gives the factors of a delta; `factorise`, or that behind a store."""

    def __call__(self, delta: Tensor, rank: int | None = None) -> Factors:
        """Factors of a delta (out, in): the leading `rank` triplets, or all of them."""
        ...


def factorise(delta: Tensor, rank: int | None = None) -> Factors:
    """Thin SVD in float32 (half precision has none: mergekit issue 304).

    Args:
        delta: (out, in), any floating dtype.
        rank: how many leading triplets are wanted, at least 1; None is all min(out, in).

    Returns:
        `rank` triplets, fewer where the delta has fewer. All of them: within 3e-6 of the delta.
        Leading ones: their product is within 1e-3 of the exact one's, relative in the Frobenius
        norm. The same delta and rank give the same bits.
    """
    matrix = delta.float()
    if rank is None:
        return _trimmed(_all_triplets(matrix))
    if min(matrix.shape) > _SMALL and rank <= _LEADING_FRAC * min(matrix.shape):
        found = _leading(matrix, rank)
        if found is not None:
            return _trimmed(found)
    return factorise(matrix).leading(rank)


def _all_triplets(matrix: Tensor) -> Factors:
    found = low_rank(matrix)
    short, long = sorted(matrix.shape)
    if found is None and short > _SMALL and long >= _LONG * short:
        found = _by_gram(matrix)
    if found is not None:
        return found
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return Factors(u, s, vh.T)


def _trimmed(factors: Factors) -> Factors:
    """Without the trailing triplets that hold next to nothing."""
    tail = factors.s.double().square().flip(0).cumsum(0).flip(0).sqrt()  # norm from each one on
    return factors.leading(int((tail > _NOTHING * tail[:1]).sum().item()))


def low_rank(delta: Tensor) -> Factors | None:
    """All triplets of a delta of low rank, by one random projection: a twentieth of a full SVD.

    Args:
        delta: (out, in), any floating dtype.

    Returns:
        Factors within 3e-6 of the delta, or None where its rank is above an eighth of the shorter
        side, or that side is at most 256 and a full SVD as good.
    """
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


def _within(left: Tensor, inner: Tensor) -> Factors:
    """Factors of left @ inner, where left (out, k) has orthonormal columns and inner is (k, in)."""
    right, r = torch.linalg.qr(inner.T)
    u, s, vh = torch.linalg.svd(r.T)
    return Factors(left @ u, s, right @ vh.T)


def _random(matrix: Tensor, size: int) -> Tensor:
    """Gaussian vectors (in, size), the same for every matrix, call and device."""
    random = torch.Generator().manual_seed(0)  # on the CPU
    return torch.randn(matrix.shape[1], size, generator=random).to(matrix.device)


def _by_gram(matrix: Tensor) -> Factors | None:
    """Exact factors from the eigenvectors of the short side, or None where it is too ill for it."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    exact = wide.double()
    values, vectors = torch.linalg.eigh(exact @ exact.T)
    if values[0] <= _GRAM_FLOOR * values[-1]:
        return None
    s = values.flip(0).sqrt()
    short = vectors.flip(1)
    long = ((exact.T @ short) / s).float()
    u, v = (short.float(), long) if wide is matrix else (long, short.float())
    return Factors(u, s.float(), v)


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
        found = _within(left, left.T @ matrix)
        kept = found.leading(rank)
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
        left = torch.linalg.qr(matrix @ found.v).Q
    return None


def factoriser(store: TensorStore | None) -> Factoriser:
    """`factorise`, or in front of it a store that keeps what was factorised before.

    A file is found by the SHA-256 of the delta itself (shape and float32 bytes), the number of
    triplets asked for, and the version of what computes them, so it serves every run, method and
    set of sources in which that delta occurs, and can never be stale.
    """

    if store is None:
        return factorise

    def factors(delta: Tensor, rank: int | None = None) -> Factors:
        key = content_key({"delta": delta.float()}, (_VERSION, rank))
        return Factors(**store.kept(key, lambda: _as_tensors(factorise(delta, rank)), delta.device))

    return factors


def _as_tensors(factors: Factors) -> dict[str, Tensor]:
    return {"u": factors.u, "s": factors.s, "v": factors.v}
