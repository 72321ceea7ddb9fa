"""From a model's likelihood score to the rate of its judged replies: a monotone map of one metric.

A likelihood ranks models as their replies do and is no rate. Some models reply anyway; on those

    logit rate = offset + slope * logit score,    slope > 0

is fitted by maximum likelihood: the binomial regression of Platt (1999), on the logit of a score as
Kull et al. (2017) take it, so that offset 0 and slope 1 leave a score as it is. Weak priors around
these keep few or equal models from an infinite slope: offset ~ N(0, 5^2), log slope ~ N(0, 1).

The standard error is that of a prediction of the rate on as many new replies: what two numbers
from few models leave open, and the chance of the replies, both times the dispersion, at least 1, by
which models scatter around the curve more than chance has it (McCullagh and Nelder 1989, 4.5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from safemerge.score import Score

LEAST_MODELS = 4  # that have replied, with two different scores: two numbers are fitted to them
_OFFSET_STD, _LOG_SLOPE_STD = 5.0, 1.0  # of the priors

_Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AnsweredModel:
    """One model by both, on probes of the same kind, the same ones or others."""

    likelihood: Score
    rate: Score  # of its judged replies; n of them


@dataclass(frozen=True, slots=True)
class RateMap:
    """A fitted map. It never falls, so models keep the order of their likelihoods."""

    offset: float
    slope: float  # above 0
    models: int  # it was fitted to
    n: int  # replies of one of them, the mean
    dispersion: float  # at least 1
    covariance: tuple[tuple[float, float], tuple[float, float]]  # of (offset, log slope), at 1

    def rate(self, likelihood: Score) -> Score:
        """The rate that is to be expected of a model's judged replies, with its standard error."""
        z = _logit(likelihood)
        value = float(expit(self.offset + self.slope * z))
        # d rate / d (offset, log slope)
        spread = value * (1.0 - value)
        by_offset, by_slope = spread, spread * self.slope * z
        (var_offset, covar), (_, var_slope) = self.covariance
        variance = var_offset * by_offset**2 + var_slope * by_slope**2 + spread / self.n
        variance += 2.0 * covar * by_offset * by_slope
        return Score(value, min(0.5, math.sqrt(self.dispersion * variance)), self.n)


def fit_rate_map(models: Sequence[AnsweredModel]) -> RateMap | None:
    """Fit the map; None where it would be a guess: fewer than `LEAST_MODELS`, or all of one score.

    Args:
        models: that have replied, in any order.
    """
    z = np.array([_logit(model.likelihood) for model in models])
    if len(models) < LEAST_MODELS or float(np.ptp(z)) == 0.0:
        return None
    n = np.array([float(model.rate.n) for model in models])
    right = n * np.array([model.rate.value for model in models])

    def loss(theta: _Vector) -> tuple[float, _Vector]:
        offset, log_slope = theta
        eta = offset + math.exp(log_slope) * z
        # -log binomial, without what no parameter changes
        value = float(np.sum(n * np.logaddexp(0.0, eta) - right * eta))
        value += 0.5 * (offset / _OFFSET_STD) ** 2 + 0.5 * (log_slope / _LOG_SLOPE_STD) ** 2
        error = n * expit(eta) - right
        gradient = [
            error.sum() + offset / _OFFSET_STD**2,
            float(error @ z) * math.exp(log_slope) + log_slope / _LOG_SLOPE_STD**2,
        ]
        return value, np.array(gradient)

    offset, log_slope = minimize(loss, np.zeros(2), jac=True, method="BFGS").x
    slope = math.exp(log_slope)
    share = expit(offset + slope * z)
    weight = n * share * (1.0 - share)
    # Fisher information of (offset, log slope), and of the priors.
    columns = np.stack([np.ones_like(z), slope * z])
    information = (columns * weight) @ columns.T
    information += np.diag([_OFFSET_STD**-2, _LOG_SLOPE_STD**-2])
    # Pearson's statistic; a rate that is expected at 0 or 1 has the variance of one reply in n + 4.
    expected = (n * share + 2.0) / (n + 4.0)
    pearson = float(np.sum((right - n * share) ** 2 / (n * expected * (1.0 - expected))))
    covariance = np.linalg.inv(information).tolist()
    return RateMap(
        offset=float(offset),
        slope=slope,
        models=len(models),
        n=round(float(n.mean())),
        dispersion=max(1.0, pearson / (len(models) - 2)),
        covariance=(tuple(covariance[0]), tuple(covariance[1])),
    )


def with_replies(estimate: Score, replies: Score) -> Score:
    """An estimate of a model's rate and its own replies as one: the mean by inverse variance."""
    a, b = estimate.stderr**-2, replies.stderr**-2
    value = (a * estimate.value + b * replies.value) / (a + b)
    return Score(value, (a + b) ** -0.5, estimate.n + replies.n)


def _logit(score: Score) -> float:
    """Of a mean of n values in [0, 1], half a value away from 0 and 1."""
    return float(logit((score.n * score.value + 0.5) / (score.n + 1.0)))
