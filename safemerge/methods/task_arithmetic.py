"""Task arithmetic: theta = base + scale * sum_i w_i D_i.

Source: Ilharco et al. 2022 (2212.04089, section 2); the form with a weight a source is mergekit's.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from safemerge.methods.common.method import Method, State
from safemerge.methods.common.params import Scaled
from safemerge.methods.common.weighted_sum import (
    SUM_BLOCK,
    add_deltas,
    beside_base,
    bytes_of_deltas,
    keep_deltas,
)


def weigh(state: State, weights: Tensor, params: Scaled) -> Tensor:
    """Coefficients of base and deltas; weights (n_sources,) are any finite."""
    return beside_base(params.scale * weights)


def weigh_mean(state: State, weights: Tensor, params: Scaled) -> Tensor:
    """Coefficients of base and deltas; weights (n_sources,) are any finite."""
    return beside_base(params.scale / weights.numel() * weights)


METHOD = Method(
    name="task_arithmetic",
    params=Scaled,
    prepare=keep_deltas,
    piecewise=True,
    weigh=weigh,
    combine=add_deltas,
    entrywise=("deltas",),
    linear=True,
    block=SUM_BLOCK,
    footprint=bytes_of_deltas,
)

MEAN = replace(METHOD, name="mean_delta", weigh=weigh_mean)
"""theta = base + scale / T * sum_i w_i D_i: not registered; what TSV-M does with vectors."""
