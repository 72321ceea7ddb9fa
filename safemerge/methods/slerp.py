"""Spherical interpolation between two sources, tensor by tensor.

Source: Shoemake 1985, in the form of mergekit's `slerp`. With t = w_2 / (w_1 + w_2) and Omega the
angle between the flattened tensors (linear interpolation where |cos Omega| > 0.9995):

    theta = sin((1 - t) Omega) / sin Omega theta_1 + sin(t Omega) / sin Omega theta_2
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from safemerge.methods import karcher
from safemerge.methods.common.method import State
from safemerge.methods.common.params import Params
from safemerge.methods.common.weighted_sum import norms, of_sources
from safemerge.methods.linear import positive_sum

_LINEAR = 0.9995  # mergekit's: beyond it the sine is too small to divide by
_LEAST_NORM = 1e-8  # mergekit's: a tensor below it is not normalised


def weigh(state: State, weights: Tensor, params: Params) -> Tensor:
    """Coefficients of base and deltas, from `gram` (2, 2); weights need a positive sum."""
    share = weights / positive_sum(weights, "slerp")  # 1 - t, t
    lengths = norms(state["gram"])
    lengths = torch.where(lengths > _LEAST_NORM, lengths, 1.0)
    cosine = (state["gram"][0, 1] / lengths.prod()).clamp(-1.0, 1.0)
    if cosine.abs().item() <= _LINEAR:
        omega = cosine.acos().to(share)
        share = (share * omega).sin() / omega.sin()
    return of_sources(share)


METHOD = replace(  # another way to walk the same sphere, from the same inner products
    karcher.METHOD,
    name="slerp",
    params=Params,
    weigh=weigh,
    least_sources=2,
    most_sources=2,
)
