"""Mean of the weighted deltas: theta = base + scale / T * sum_i w_i D_i.

What TSV-M does with everything that is not a matrix (methods.md 4.1); not a method of its own.
"""

from __future__ import annotations

from torch import Tensor

from safemerge.methods.base import Method, Scaled, State
from safemerge.methods.deltas import (
    add_deltas,
    beside_base,
    bytes_of_deltas,
    keep_deltas,
    keep_piece,
)


def weigh(state: State, weights: Tensor, params: Scaled) -> Tensor:
    """Coefficients of base and deltas.

    Args:
        state: unused.
        weights: (n_sources,), any finite value.
        params: `scale`.
    """
    return beside_base(params.scale / weights.numel() * weights)


METHOD = Method(
    name="mean_delta",
    source="2412.00081, treatment of one-dimensional tensors; methods.md 4.1",
    params=Scaled,
    prepare=keep_deltas,
    in_pieces=keep_piece,
    weigh=weigh,
    combine=add_deltas,
    entrywise=("deltas",),
    footprint=bytes_of_deltas,
)
