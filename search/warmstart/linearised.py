"""A surrogate of the probe losses: first-order models of their margins, mixed by nearness.

A group of probes whose answers the merged model gives with probability p has the margin
z = log(p / (1 - p)) and the loss softplus(-z) = -log p. Margins are closer to linear in the merge
weights than losses, which level off at both ends. With values and gradients known at points x_k

    z(w) = sum_k c_k (z(x_k) + <grad z(x_k), w - x_k>) / sum_k c_k,   c_k = 1 / |w - x_k|^2

which is gradient-enhanced inverse-distance weighting (Shepard 1968, with linear instead of constant
nodes). It is minimised within a trust region by normalised gradient descent with momentum, of
losses at a temperature, T softplus(-z / T), as in distillation (Hinton et al. 2015, 1503.02531).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

_LEAST_LOSS = 1e-6  # below, a group counts as answered for certain: its margin is finite
_NEAR = 1e-6  # added to squared distances, so that a linearised point is itself
_PAIRS = 16  # of opposite draws of the noise, the same in every step of a solution
_TEMPERATURE = 3.0  # T above
_STEPS = 80  # of the descent to a solution
_RATE = 0.1  # length of the first step, as a share of the region's half diagonal
_LAST_RATE = 0.02  # of the last step, as a share of the first
_MOMENTUM = 0.9
_FLAT = 1e-12  # added to a gradient's length, which may be 0


@dataclass(frozen=True, slots=True)
class Linearisation:
    """Margins of groups of probes at a point, and their gradients there."""

    at: Tensor  # (d,), merge weights
    margins: Tensor  # (n_groups,)
    slopes: Tensor  # (n_groups, d), gradients of the margins

    @classmethod
    def of_losses(cls, at: Tensor, losses: Tensor, gradients: Tensor) -> Linearisation:
        """From losses (n_groups,), -log p, and gradients (n_groups, d) at a point (d,)."""
        losses = losses.clamp_min(_LEAST_LOSS)
        # log(p / (1 - p)) and d z / d loss, in forms that hold at both ends.
        margins = -losses - torch.log(-torch.expm1(-losses))
        slopes = gradients / torch.expm1(-losses)[:, None]
        return cls(at, margins, slopes)


@dataclass(frozen=True, slots=True)
class TrustRegion:
    """A box around a point, in which the surrogate is believed."""

    centre: Tensor  # (d,), where a solution sets out
    radius: float  # most that a weight may change, above 0
    bounds: tuple[float, float]  # every weight stays within these too


@dataclass(frozen=True, slots=True)
class Regularisation:
    """What a solution needs besides a low loss."""

    prior: Tensor  # (d,)
    prior_l2: float  # factor on the mean squared distance to the prior, at least 0
    weight_noise_std: (
        float  # at least 0: weights times 1 + std * N(0, 1), so that neighbours are good
    )
    seed: int  # of the noise


class LinearisedLosses:
    """The surrogate; see the top of this file."""

    def __init__(self, axes: Sequence[str]) -> None:
        """Begin with no points; `axes` is the probe axis of each group, (n_groups,)."""
        names = tuple(dict.fromkeys(axes))
        owner = torch.tensor([names.index(axis) for axis in axes])
        self._rows = {axis: torch.nonzero(owner == i).flatten() for i, axis in enumerate(names)}
        # Of all points: (n_points, d), (n_points, n_groups), (n_points, n_groups, d).
        self._at, self._at_zero, self._slopes = torch.empty(0), torch.empty(0), torch.empty(0)

    def add(self, point: Linearisation) -> None:
        """Take in one more point."""
        at_zero = point.margins - point.slopes @ point.at
        self._at = torch.cat([self._at, point.at[None]])
        self._at_zero = torch.cat([self._at_zero, at_zero[None]])
        self._slopes = torch.cat([self._slopes, point.slopes[None]])

    def margins(self, weights: Tensor) -> Tensor:
        """Margins (..., n_groups) at weights (..., d); needs a point."""
        closeness = 1.0 / ((weights[..., None, :] - self._at).square().sum(-1) + _NEAR)
        shares = closeness / closeness.sum(-1, keepdim=True)  # (..., n_points)
        rises = weights @ self._slopes.flatten(0, 1).T
        each = rises.view(*rises.shape[:-1], *self._at_zero.shape) + self._at_zero
        margins: Tensor = (shares[..., None, :] @ each).squeeze(-2)
        return margins

    def loss(self, margins: Tensor, axis_weights: Mapping[str, float]) -> Tensor:
        """Weighted sum of the axes' mean losses, at T, of margins (..., n_groups)."""
        losses = _TEMPERATURE * softplus(-margins / _TEMPERATURE)
        parts = [
            weight * losses[..., self._rows[axis]].mean(-1) for axis, weight in axis_weights.items()
        ]
        return torch.stack(parts).sum(dim=0)

    def minimise(
        self, axis_weights: Mapping[str, float], region: TrustRegion, regular: Regularisation
    ) -> Tensor:
        """The weights (d,) with the least modelled, regularised loss within a region."""
        centre, prior = region.centre, regular.prior
        generator = torch.Generator().manual_seed(regular.seed)
        draws = torch.randn(_PAIRS, centre.numel(), generator=generator)
        noise = regular.weight_noise_std * torch.cat([draws, -draws])
        factors = (1.0 + noise).to(centre)
        weights = centre.clone().requires_grad_()
        low = (centre - region.radius).clamp(*region.bounds)
        high = (centre + region.radius).clamp(*region.bounds)
        direction = torch.zeros_like(centre)
        longest = _RATE * region.radius * centre.numel() ** 0.5
        for step in range(_STEPS):
            loss = self.loss(self.margins(weights * factors), axis_weights).mean()
            loss = loss + regular.prior_l2 * (weights - prior).square().mean()
            (slope,) = torch.autograd.grad(loss, weights)
            direction.mul_(_MOMENTUM).add_(slope / (slope.norm() + _FLAT), alpha=1.0 - _MOMENTUM)
            length = longest * (1.0 - (1.0 - _LAST_RATE) * step / _STEPS)
            with torch.no_grad():
                weights.sub_(length * direction).clamp_(low, high)
        return weights.detach()
