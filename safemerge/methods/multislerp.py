"""Multi-SLERP: the mean direction of several deltas, or sources, at their mean length.

Source: Goddard, mergekit's `multislerp`: the points are projected onto the tangent space at their
weighted mean direction, averaged there and projected back. The average there is 0, whatever the
points, so that with v_i = D_i or theta_i and a_i = w_i / sum_j w_j

    m = sum_i a_i v_i / ||v_i||        v = sum_i a_i ||v_i|| m / ||m||       theta = base + v, or v

which is the start of `karcher.py`'s iteration. Where ||m|| < eps, v = sum_i a_i v_i.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field
from torch import Tensor

from safemerge.methods import nuslerp
from safemerge.methods.common.method import State
from safemerge.methods.common.weighted_sum import beside_base, norms, of_sources
from safemerge.methods.linear import positive_sum


class MultislerpParams(nuslerp.SphereParams):
    """Without `normalize` a_i = w_i; `eps` is added to every length."""

    normalize: bool = True
    eps: float = Field(default=1e-8, gt=0.0, le=1.0)


def weigh(state: State, weights: Tensor, params: MultislerpParams) -> Tensor:
    """Coefficients of base and deltas, from `gram` (T, T); weights need a positive sum."""
    total = positive_sum(weights, "multislerp")
    a = weights / total if params.normalize else weights
    if len(a) > 1:
        lengths = norms(state["gram"])
        of_units = a.to(lengths) / (lengths + params.eps)  # m by its v_i
        squared = of_units @ state["gram"] @ of_units
        if squared.item() >= params.eps**2:
            a = ((a.to(lengths) * lengths).sum() / squared.sqrt() * of_units).to(a)
    return beside_base(a) if params.from_base else of_sources(a)


METHOD = replace(
    nuslerp.METHOD,
    name="multislerp",
    params=MultislerpParams,
    weigh=weigh,
    least_sources=1,
    most_sources=None,
)
