"""The linear family: theta = c_0 base + sum_i c_i D_i. Its methods differ in their coefficients.

Not a method of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from safemerge.methods.common.base import Choice, Params, Site, State

# Of a block, of the few entries among which a threshold is found, and of what malloc keeps between
# freed blocks: up to 28 MiB a tensor with three in progress (measured by peak_memory.py).
_TEMPORARY_BYTES = 32 << 20


SUM_BLOCK = 1 << 19
"""Entries of a block of `add_deltas`, which has a single temporary: with a quarter as many threads
wait for each other between the calls (measured, two threads: a third slower)."""


def keep_deltas(base: Tensor, deltas: Tensor, params: Params, site: Site) -> State:
    """Keep the deltas as they are: `deltas` (n_sources, *base.shape), float32."""
    return {"deltas": deltas}


def keep_piece(deltas: Tensor, begin: int, choice: Choice, params: Params, site: Site) -> State:
    """`keep_deltas` of a piece."""
    return {"deltas": deltas}


def keep_deltas_and(
    gather: Callable[[Tensor, State, Params], State],
) -> Callable[[Tensor, Tensor, Params, Site], State]:
    """A `prepare` that keeps the deltas beside what `gather` finds in all of them."""

    def prepare(base: Tensor, deltas: Tensor, params: Params, site: Site) -> State:
        return {"deltas": deltas, **gather(base, {"deltas": deltas}, params)}

    return prepare


def add_deltas(base: Tensor, state: State, coefficients: Tensor, params: Params) -> Tensor:
    """The sum.

    Args:
        base: any shape.
        state: `deltas` (n_sources, *base.shape).
        coefficients: (1 + n_sources,), the base's first.
        params: unused.
    """
    deltas = state["deltas"]
    merged = base.to(deltas.dtype, copy=True)
    if coefficients.requires_grad:
        flat = merged.reshape(-1).mul_(coefficients[0])
        return flat.addmv_(deltas.reshape(len(deltas), -1).T, coefficients[1:]).reshape(base.shape)
    # One source after the other, in place on a copy made here: bound by memory, where a product is
    # a quarter slower. A source that is off is not even read.
    of_base, *of_deltas = coefficients.tolist()
    if of_base != 1.0:
        merged.mul_(of_base)
    for delta, coefficient in zip(deltas, of_deltas, strict=True):
        if coefficient != 0.0:
            merged.add_(delta, alpha=coefficient)
    return merged


def bytes_of_deltas(shape: tuple[int, ...], n_sources: int) -> int:
    """Footprint of methods that hold the deltas and pass over them in blocks."""
    return 4 * math.prod(shape) * n_sources + _TEMPORARY_BYTES


def beside_base(coefficients: Tensor) -> Tensor:
    """Coefficients (1 + n_sources,) that add deltas, (n_sources,), to the whole base."""
    return torch.cat([torch.ones_like(coefficients[:1]), coefficients])


def of_sources(coefficients: Tensor) -> Tensor:
    """Coefficients (1 + n_sources,) of a sum of sources, sum_i c_i theta_i, from c (n_sources,)."""
    return torch.cat([coefficients.sum(dim=0, keepdim=True), coefficients])
