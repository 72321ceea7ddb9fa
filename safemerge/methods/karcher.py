"""Karcher mean: the point on the sphere with the least weighted squared angle to all sources.

Source: Karcher 1977, in the form of mergekit's `karcher`, which weights all sources alike. With
units u_i = theta_i / ||theta_i|| and a_i = w_i / sum_j w_j, from u = sum_i a_i u_i, normalised,
repeat

    omega_i = arccos <u, u_i>      v = sum_i a_i omega_i / sin omega_i (u_i - <u, u_i> u)
    u <- cos ||v|| u + sin ||v|| v / ||v||

and give u the length sum_i a_i ||theta_i||. The iteration runs on the coefficients of the u_i, in
the Gram matrix of the sources, which is taken once.
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
    """Most iterations, and the angle, step or length below which one counts as 0."""

    max_iter: int = Field(default=10, ge=1, le=1_000_000)
    tol: float = Field(default=1e-5, gt=0.0, le=0.1)


def prepare(base: Tensor, deltas: Tensor, params: KarcherParams, site: Site) -> State:
    """Keep the `deltas` (T, *shape) beside the Gram matrix of the sources, `gram` (T, T)."""
    return {"deltas": deltas, "gram": gram(deltas, base)}


def weigh(state: State, weights: Tensor, params: KarcherParams) -> Tensor:
    """Coefficients of base and deltas, from `gram` (T, T); weights need a positive sum."""
    a = weights / linear.positive_sum(weights, "karcher")
    if len(a) == 1:
        return of_sources(a)
    lengths = norms(state["gram"])
    there = lengths > params.tol
    if not bool(there.any()):
        return of_sources(0.0 * a)
    divisors = lengths.where(there, lengths.new_ones(()))
    cosines = state["gram"] / (divisors[:, None] * divisors)
    exact = a.to(cosines) * there
    u = _mean(cosines, exact / exact.sum(), params)
    length = (a.to(lengths) * lengths).sum()
    return of_sources((length * u / divisors * there).to(a))


def _mean(cosines: Tensor, a: Tensor, params: KarcherParams) -> Tensor:
    """u as coefficients of the units u_i, (n_sources,), from the cosines between these."""

    def normalised(point: Tensor) -> Tensor:
        return point / (point @ cosines @ point).sqrt()

    u = a
    if (a @ cosines @ a).clamp_min(0.0).sqrt().item() < params.tol:
        u = a.new_zeros(len(a)).index_fill(0, (a != 0).nonzero()[0], 1.0)
    u = normalised(u)
    for _ in range(params.max_iter):
        dot = (cosines @ u).clamp(-1.0, 1.0)  # <u, u_i>
        away = dot.detach().acos()
        # A source in the mean needs no step, and one opposite to it shows no direction. There the
        # quotient is replaced before it is formed, for the gradient.
        pulls = (away >= params.tol) & (away <= math.pi - _OPPOSITE)
        omega = dot.where(pulls, dot.new_zeros(())).acos()
        pull = (a * omega / omega.sin()).where(pulls, dot.new_zeros(()))
        v = pull - (pull * dot).sum() * u
        squared = v @ cosines @ v
        if squared.item() < params.tol**2:
            break
        step = squared.sqrt()  # ||v||
        u = normalised(step.cos() * u + step.sin() / step * v)
    return u


METHOD = replace(
    linear.METHOD,
    name="karcher",
    params=KarcherParams,
    prepare=prepare,
    sums=lambda params: ("gram",),
    weigh=weigh,
)
