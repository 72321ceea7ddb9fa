"""Inner products between sources, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from safemerge.methods.common.base import Params, State
from safemerge.methods.common.blocks import blocks


def gram(deltas: Tensor, base: Tensor | None = None) -> Tensor:
    """Gram matrix of the deltas, or of the sources base + D_i where a base is given.

    Of sources it is taken in float64: they hardly differ, so their angles hang on the last digits.
    Deltas point anywhere, and float32 within blocks is enough, and faster.

    Args:
        deltas: (n_sources, *shape), float32.
        base: shape, any floating dtype.

    Returns:
        (n_sources, n_sources), float64, on the CPU.
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


def gram_of_deltas(base: Tensor, state: State, params: Params) -> State:
    """`gram` of the deltas, as a part of a state."""
    return {"gram": gram(state["deltas"])}


def gram_of_sources(base: Tensor, state: State, params: Params) -> State:
    """`gram` of the sources, as a part of a state."""
    return {"gram": gram(state["deltas"], base)}


def norms(products: Tensor) -> Tensor:
    """Lengths (n_sources,) of the vectors of a Gram matrix."""
    return products.diagonal().clamp_min(0.0).sqrt()
