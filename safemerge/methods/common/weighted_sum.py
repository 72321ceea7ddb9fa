"""The linear family: theta = c_0 base + sum_i c_i D_i, and the inner products that some c need."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from safemerge.methods.common.blocks import blocks
from safemerge.methods.common.method import Site, State
from safemerge.methods.common.params import Params

_TEMPORARY_BYTES = 32 << 20  # of a block, a threshold and freed memory (peak_memory.py)

SUM_BLOCK = 1 << 19
"""Entries of a block of `add_deltas`, which has a single temporary."""


def keep_deltas(base: Tensor, deltas: Tensor, params: Params, site: Site) -> State:
    """Keep the deltas as they are: `deltas` (n_sources, *base.shape), float32."""
    return {"deltas": deltas}


def add_deltas(base: Tensor, state: State, coefficients: Tensor, params: Params) -> Tensor:
    """c_0 base + sum_i c_i D_i, from `deltas` of the state and coefficients (1 + n_sources,)."""
    deltas = state["deltas"]
    merged = base.to(deltas.dtype, copy=True)
    if coefficients.requires_grad:
        flat = merged.reshape(-1).mul_(coefficients[0])
        return flat.addmv_(deltas.reshape(len(deltas), -1).T, coefficients[1:]).reshape(base.shape)
    # One source after the other, in place: bound by memory, where a product takes longer. A source
    # that is off is not even read.
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


def gram(deltas: Tensor, base: Tensor | None = None) -> Tensor:
    """Gram matrix (n_sources, n_sources) of the deltas, or of the sources where a base is given.

    float64, on the CPU. Of sources the products are float64 too: they hardly differ, and their
    angles hang on the last digits.
    """
    flat = deltas.reshape(len(deltas), -1)
    flat_base = None if base is None else base.reshape(-1)
    total = flat.new_zeros(len(flat), len(flat), dtype=torch.float64)
    for entries in blocks(flat.shape[1], flat.device):
        rows = flat[:, entries]
        if flat_base is not None:
            rows = flat_base[entries].double() + rows
        total += rows @ rows.T
    return total.cpu()


def norms(products: Tensor) -> Tensor:
    """Lengths (n_sources,) of the vectors of a Gram matrix."""
    return products.diagonal().clamp_min(0.0).sqrt()
