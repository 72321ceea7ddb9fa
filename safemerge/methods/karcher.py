"""Karcher mean: the point on the sphere with the least weighted squared angle to all sources.

Source: Karcher 1977, in the form of mergekit's `karcher`, which weights all sources alike. With
units u_i = theta_i / ||theta_i|| and a_i = w_i / sum_j w_j, from u = sum_i a_i u_i, normalised,
repeat

    omega_i = arccos <u, u_i>      T = sum_i a_i omega_i / sin omega_i (u_i - <u, u_i> u)
    u <- cos ||T|| u + sin ||T|| T / ||T||

and give u the length sum_i a_i ||theta_i||. Every vector here is a combination of the sources, so
the iteration runs on its coefficients in the T x T Gram matrix of the sources, which is taken once;
the tensors are read once, at the end.
"""

from __future__ import annotations

import math
from dataclasses import replace

from pydantic import Field
from torch import Tensor

from safemerge.methods import linear
from safemerge.methods.common.method import Site, State
from safemerge.methods.common.params import Params
from safemerge.methods.common.weighted_sum import gram, norms, of_sources

_OPPOSITE = 1e-3  # of pi; nearer, the direction is lost in the rounding of float32 tensors


class KarcherParams(Params):
    """Parameters of the Karcher mean.

    Args:
        max_iter: most iterations, in [1, 1000]; sources of one base need two or three.
        tol: an angle or step below this counts as 0, in (0, 0.1].
    """

    max_iter: int = Field(default=10, ge=1, le=1000)
    tol: float = Field(default=1e-5, gt=0.0, le=0.1)


def prepare(base: Tensor, deltas: Tensor, params: KarcherParams, site: Site) -> State:
    """Keep the `deltas` (T, *shape) beside the Gram matrix of the sources, `gram` (T, T)."""
    return {"deltas": deltas, "gram": gram(deltas, base)}


def weigh(state: State, weights: Tensor, params: KarcherParams) -> Tensor:
    """Coefficients of base and deltas.

    Args:
        state: `gram` (n_sources, n_sources) of the sources.
        weights: (n_sources,); their sum must be positive.

    Raises:
        RecipeError: where the weights sum to 0 or less.
    """
    share = weights / linear.positive_sum(weights, "karcher")
    if len(share) == 1:
        return of_sources(share)
    lengths = norms(state["gram"])
    there = lengths > params.tol
    if not bool(there.any()):
        return of_sources(0.0 * share)
    divisors = lengths.where(there, lengths.new_ones(()))
    cosines = state["gram"] / (divisors[:, None] * divisors)
    exact = share.to(cosines) * there
    mean = _mean(cosines, exact / exact.sum(), params)
    length = (share.to(lengths) * lengths).sum()
    return of_sources((length * mean / divisors * there).to(share))


def _mean(cosines: Tensor, share: Tensor, params: KarcherParams) -> Tensor:
    """Coefficients of the mean in the units, (n_sources,), from the cosines between them."""

    def normalised(point: Tensor) -> Tensor:
        return point / (point @ cosines @ point).sqrt()

    mean = share
    if (share @ cosines @ share).clamp_min(0.0).sqrt().item() < params.tol:
        mean = share.new_zeros(len(share)).index_fill(0, (share != 0).nonzero()[0], 1.0)
    mean = normalised(mean)
    for _ in range(params.max_iter):
        dot = (cosines @ mean).clamp(-1.0, 1.0)
        away = dot.detach().acos()
        # A source in the mean needs no step, and one opposite to it shows no direction. There the
        # quotient is replaced before it is formed, for the gradient.
        pulls = (away >= params.tol) & (away <= math.pi - _OPPOSITE)
        angle = dot.where(pulls, dot.new_zeros(())).acos()
        pull = (share * angle / angle.sin()).where(pulls, dot.new_zeros(()))
        tangent = pull - (pull * dot).sum() * mean
        squared = tangent @ cosines @ tangent
        if squared.item() < params.tol**2:
            break
        step = squared.sqrt()
        mean = normalised(step.cos() * mean + step.sin() / step * tangent)
    return mean


METHOD = replace(
    linear.METHOD,
    name="karcher",
    params=KarcherParams,
    prepare=prepare,
    sums=lambda params: ("gram",),
    weigh=weigh,
)
