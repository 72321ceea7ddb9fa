"""Mean of the weighted deltas: theta = base + scale / T * sum_i w_i D_i.

What TSV-M does with everything that is not a matrix (methods.md 4.1); not a method of its own.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from safemerge.methods import task_arithmetic
from safemerge.methods.common.base import Scaled, State
from safemerge.methods.common.deltas import beside_base


def weigh(state: State, weights: Tensor, params: Scaled) -> Tensor:
    """Coefficients of base and deltas.

    Args:
        state: unused.
        weights: (n_sources,), any finite value.
        params: `scale`.
    """
    return beside_base(params.scale / weights.numel() * weights)


METHOD = replace(
    task_arithmetic.METHOD,
    name="mean_delta",
    source="2412.00081, treatment of one-dimensional tensors; methods.md 4.1",
    weigh=weigh,
)
