"""LowRank: a delta B A as its two factors, which is how a LoRA stores it. It is formed in rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 2**19  # entries of some rows; 2 MiB of float32


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """B A (out, in), of rank r at most; zero where r is 0. `left @ it` and `it @ right` are small.

    Args:
        b: (out, r), float32, scaled.
        a: (r, in), float32.
    """

    b: Tensor
    a: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.b.shape[0], self.a.shape[1]

    def transposed(self) -> LowRank:
        """A' B' (in, out)."""
        return LowRank(self.a.T, self.b.T)

    def norm(self) -> Tensor:
        """Frobenius norm, 0-D: |B A|^2 = <B'B, A A'>."""
        b, a = self.b.double(), self.a.double()
        return ((b.T @ b) * (a @ a.T)).sum().clamp_min(0.0).sqrt()

    def dense(self) -> Tensor:
        """(out, in), float32."""
        return self.b @ self.a

    def pieces(self, entries: int) -> Iterator[Tensor]:
        """The same in flat pieces of entries."""
        out, into = self.shape
        for begin in range(0, out * into, entries):
            end = min(begin + entries, out * into)
            first = begin // into
            rows = self.b[first : -(-end // into)] @ self.a
            yield rows.flatten()[begin - first * into : end - first * into]

    def __matmul__(self, right: Tensor) -> Tensor:
        return self.b @ (self.a @ right)

    def __rmatmul__(self, left: Tensor) -> Tensor:
        return (left @ self.b) @ self.a


Delta = Tensor | LowRank
Deltas = Tensor | Sequence[LowRank]
"""Of all sources: (n_sources, *shape) in float32, or the factors of each."""


def dense(delta: Delta) -> Tensor:
    """(out, in), float32."""
    return delta.dense() if isinstance(delta, LowRank) else delta.float()


def row_blocks(delta: Delta) -> Iterator[Tensor]:
    """The rows of a delta, (n, in) at a time: of factors a few, else all."""
    if not isinstance(delta, LowRank):
        yield delta.float()
        return
    out, into = delta.shape
    step = max(1, _BLOCK // max(into, 1))
    for first in range(0, max(out, 1), step):
        yield delta.b[first : first + step] @ delta.a


def add_products(
    out: Tensor, base: Tensor, deltas: Sequence[LowRank], coefficients: Tensor
) -> None:
    """Write c_0 base + sum_i c_i B_i A_i into `out` (out, in), as one product, some rows at once.

    Args:
        out: any floating dtype.
        base: (out, in), any floating dtype.
        deltas: of each source.
        coefficients: c, (1 + n_sources,); a source of 0 takes no part.
    """
    of_base, *of_deltas = coefficients.tolist()
    used = [(c, delta) for c, delta in zip(of_deltas, deltas, strict=True) if c != 0.0]
    left = torch.cat([base.new_empty(len(base), 0).float(), *(c * d.b for c, d in used)], dim=1)
    right = torch.cat([left.new_empty(0, base.shape[1]), *(d.a for _, d in used)])
    step = max(1, _BLOCK // max(base.shape[1], 1))
    for first in range(0, len(base), step):
        rows = slice(first, first + step)
        start = base[rows].to(torch.float32, copy=True)
        if of_base != 1.0:
            start = start * of_base
        out[rows].copy_(start.addmm_(left[rows], right) if used else start)


def inner_products(gradient: Tensor, base: Tensor, deltas: Sequence[LowRank]) -> Tensor:
    """<G, base> and every <G, B_i A_i> = <B_i'G, A_i>, (1 + n_sources,), float32."""
    G = gradient.float()
    with_base = (G * base.to(G)).sum()
    return torch.stack([with_base, *(((delta.b.T @ G) * delta.a).sum() for delta in deltas)])
