"""Passthrough: the sum of the sources, each times its weight; where layers are stacked, one source.

Source: mergekit's `passthrough`, which takes one model at a time; its `scale` is the weight:

    theta = sum_i w_i theta_i

Weights are not divided by their sum, and may be 0 or less.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from safemerge.methods import linear
from safemerge.methods.common.method import State
from safemerge.methods.common.params import Params
from safemerge.methods.common.weighted_sum import of_sources


def weigh(state: State, weights: Tensor, params: Params) -> Tensor:
    return of_sources(weights)


METHOD = replace(
    linear.METHOD,
    name="passthrough",
    params=Params,
    weigh=weigh,
    positive_sum=False,
)
