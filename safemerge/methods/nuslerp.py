"""NuSLERP: spherical interpolation between two deltas, or two sources, as flattened vectors.

Source: mergekit's `nuslerp` (its flattened form; `nuslerp_rows.py` has the others). With t = w_2 /
(w_1 + w_2), v_i = D_i or theta_i, and Omega the angle between them (linear interpolation where sin
Omega < 1e-8):

    v = (sin((1 - t) Omega) v_1 + sin(t Omega) v_2) / sin Omega       theta = base + v, or v
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from safemerge.methods import karcher
from safemerge.methods.common.method import Site, State
from safemerge.methods.common.params import Params
from safemerge.methods.common.weighted_sum import beside_base, gram, norms, of_sources
from safemerge.methods.linear import positive_sum

LEAST_NORM = 1e-7  # mergekit's: a shorter vector counts as that long
LEAST_SINE = 1e-8  # mergekit's: below it interpolation is linear


class SphereParams(Params):
    """`from_base`: around the base, so that deltas are interpolated; else around 0, the sources."""

    from_base: bool = True


def prepare(base: Tensor, deltas: Tensor, params: SphereParams, site: Site) -> State:
    """Keep the `deltas` (2, *shape) beside the Gram matrix of what is interpolated, `gram`."""
    return {"deltas": deltas, "gram": gram(deltas, None if params.from_base else base)}


def weigh(state: State, weights: Tensor, params: SphereParams) -> Tensor:
    """Coefficients of base and deltas, from `gram` (2, 2); weights need a positive sum."""
    share = weights / positive_sum(weights, "nuslerp")  # 1 - t, t
    lengths = norms(state["gram"]).clamp_min(LEAST_NORM)
    angle = (state["gram"][0, 1] / lengths.prod()).clamp(-1.0, 1.0).acos()
    share = interpolated(share, angle.to(share)[None])[:, 0]
    return beside_base(share) if params.from_base else of_sources(share)


def interpolated(share: Tensor, angles: Tensor) -> Tensor:
    """Coefficients (2, n) of two vectors by shares (2,), 1 - t and t, at angles (n,)."""
    sines = angles.sin()
    linear = sines.abs() < LEAST_SINE
    curved = (share[:, None] * angles).sin() / torch.where(linear, 1.0, sines)
    return torch.where(linear, share[:, None], curved)


METHOD = replace(
    karcher.METHOD,
    name="nuslerp",
    params=SphereParams,
    prepare=prepare,
    weigh=weigh,
    prepare_key=lambda params: (params.from_base,),
    ignores_base=False,
    least_sources=2,
    most_sources=2,
)
