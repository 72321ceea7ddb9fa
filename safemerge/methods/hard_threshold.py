"""Hard threshold of singular values: what stands out of a delta's noise, at a rank of its own.

Source: Gavish and Donoho 2014 (1305.5870), on deltas by DG-Hard (2605.20296), in the form of the
latter's code. Of a delta (m, n) with singular values s_j and beta = min(m, n) / max(m, n):

    omega = sqrt(2 (beta + 1) + 8 beta / (beta + 1 + sqrt(beta^2 + 14 beta + 1)))
    mu    = square root of the median of the Marchenko-Pastur law of beta
    keep  s_j > noise * omega * median(s) / mu

The median is that of the values above 0: a LoRA has few, and of all values 0 would be the median.
At least one triplet is kept; the code may keep none.

As the stage `hard_threshold+METHOD` it filters every source before the merge, in matrices alone; as
`ranks = "threshold"` it sets the ranks of tsvm and resm.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from safemerge.errors import RecipeError
from safemerge.low_rank import Deltas, LowRank
from safemerge.methods.common.method import Measured, Method, Site, State
from safemerge.methods.common.params import Params
from safemerge.methods.common.ranks import bytes_held
from safemerge.methods.common.stage import Stage
from safemerge.recipe import Recipe

_STEPS = 1 << 16  # of the integral, whose median is then right to nine digits


class HardThresholdParams(Params):
    """`noise` is a factor on the threshold; 1 is the published one, 0.5 to 2 worth a try."""

    noise: float = Field(default=1.0, gt=0.0, le=10.0)


def threshold_rank(s: Tensor, shape: tuple[int, int], noise: float) -> int:
    """How many triplets of a delta stand out: at least 1, or 0 where it has none.

    Args:
        s: singular values, (c,), descending; zeros at the end do not count.
        shape: (out, in) of the delta.
        noise: factor on the threshold.
    """
    present = s[s > 0]
    if not len(present):
        return 0
    least = noise * _over_median(min(shape) / max(shape)) * present.median().item()
    return max(1, int((present > least).sum()))


@cache
def _over_median(beta: float) -> float:
    """omega / mu of a ratio of the sides beta, in (0, 1]."""
    omega = math.sqrt(
        2 * (beta + 1) + 8 * beta / (beta + 1 + math.sqrt(beta * beta + 14 * beta + 1))
    )
    # With lambda = 1 + beta + 2 sqrt(beta) cos(t) the law has the density 2 sin(t)^2 / (pi lambda)
    # in t, which is bounded; lambda falls as t grows. Midpoints, where lambda is not 0.
    t = (np.arange(_STEPS) + 0.5) * (math.pi / _STEPS)
    eigenvalue = 1 + beta + 2 * math.sqrt(beta) * np.cos(t)
    above = np.cumsum(np.sin(t) ** 2 / eigenvalue)
    return omega / math.sqrt(float(np.interp(above[-1] / 2, above, eigenvalue)))


def check_rank_rule(recipe: Recipe, ranks: str, rank_limit: float) -> None:
    """Refuse what the rule of a method's ranks cannot use."""
    if ranks == "threshold" and rank_limit < 1.0:
        raise RecipeError(
            f"method {recipe.method!r}: ranks = 'threshold' needs all singular values, and "
            f"rank_limit is {rank_limit:g}; set it to 1"
        )
    if ranks != "threshold" and "noise" in recipe.per_source:
        raise RecipeError(
            f"method {recipe.method!r}: noise is a number of ranks = 'threshold', and ranks is "
            f"{ranks!r}; set params.ranks, or leave noise out"
        )


def around(method: Method) -> Method:
    """The method on filtered deltas."""

    def filtered(deltas: Deltas, params: Any, site: Site) -> Deltas:
        parts = []
        for delta in deltas:
            factors, (out, into) = site.svd(delta), delta.shape
            kept = factors.leading(threshold_rank(factors.s, (out, into), params.noise))
            parts.append(LowRank(kept.u * kept.s, kept.v.T))
        return parts if method.low_rank else torch.stack([part.dense() for part in parts])

    def prepare(base: Tensor, deltas: Deltas, params: Any, site: Site) -> State:
        return method.prepare(base, filtered(deltas, params, site), params, site)

    def measure(deltas: Deltas, params: Any, site: Site) -> Measured:
        assert method.measure is not None
        return method.measure(filtered(deltas, params, site), params, site)

    def footprint(shape: tuple[int, ...], n_sources: int) -> int:
        return bytes_held(2, whole=4, squares=4)(shape, n_sources) + method.footprint(
            shape, n_sources
        )

    return replace(
        method,
        prepare=prepare,
        measure=None if method.measure is None else measure,
        low_rank=True,
        # A filtered delta is no piece of the delta.
        piecewise=False,
        sums=None,
        rows=False,
        entrywise=(),
        linear=False,
        elsewhere={role: method.for_role(role) for role in ("vector", "embedding")},
        prepare_key=lambda params: (*method.prepare_key(params), params.noise),
        footprint=footprint,
        one_source_is_itself=False,
    )


STAGE = Stage("hard_threshold", HardThresholdParams, around, before=True)
