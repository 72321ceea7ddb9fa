"""Task arithmetic: theta = base + scale * sum_i w_i D_i.

Source: Ilharco et al. 2212.04089; the form with a weight a source is mergekit's (methods.md 4.4).
"""

from __future__ import annotations

from torch import Tensor

from safemerge.methods.common.base import Method, Scaled, State
from safemerge.methods.common.deltas import (
    SUM_BLOCK,
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
    return beside_base(params.scale * weights)


METHOD = Method(
    name="task_arithmetic",
    source="2212.04089 section 2; methods.md 4.4",
    params=Scaled,
    prepare=keep_deltas,
    in_pieces=keep_piece,
    weigh=weigh,
    combine=add_deltas,
    entrywise=("deltas",),
    block=SUM_BLOCK,
    footprint=bytes_of_deltas,
)
