"""Sign consensus: of every entry, only the sources that agree with the majority sign are merged.

Source: TIES, Yadav et al. 2306.01708, in mergekit's form (methods.md 4.5): the majority sign of an
entry is the sign of the weighted sum of its kept deltas, + where that is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SIGN_BIT, _ONE = -(2**31), 0x3F800000  # of float32, as int32


def agreeing(kept: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """The majority sign, and how much each source adds in its direction.

    Args:
        kept: (n_sources, ...), what is kept of the deltas.
        coefficients: (n_sources,), what they are weighted with.

    Returns:
        The sign (...), 1 or -1, and |c_i kept_i| (n_sources, ...) where source i has that sign,
        else 0. Gradients hold the sign fixed.
    """
    sign = _signs(torch.tensordot(coefficients.detach(), kept, dims=1))
    by_source = coefficients.reshape(-1, *[1] * sign.dim())
    # In place on a buffer made here. Comparing would cost more: torch writes booleans one by one.
    return sign, (kept * by_source).mul_(sign).relu_()


def consensus_weights(weights: Tensor, factors: Tensor, scale: float) -> Tensor:
    """Coefficients of `add_consensus`, (2, n_sources): of the kept deltas, and of the divisor.

    Args:
        weights: (n_sources,).
        factors: (n_sources,), the rescaling of what is kept; no part of the divisor.
        scale: of the merged delta.
    """
    return torch.stack([scale * weights * factors.to(weights), weights])


def add_consensus(base: Tensor, kept: Tensor, coefficients: Tensor, normalize: bool) -> Tensor:
    """base + the sum of the agreeing parts, divided by the sum of their weights if `normalize`.

    Args:
        base: (...).
        kept: (n_sources, ...).
        coefficients: (2, n_sources), as `consensus_weights` returns.
        normalize: where the weights of those that agree sum to 0, nothing is divided.
    """
    if not normalize:
        # Of the sum of magnitudes, those that agree hold half of it and half of the total.
        total = torch.tensordot(coefficients[0], kept, dims=1)
        size = torch.tensordot(coefficients[0].abs(), kept.abs(), dims=1)
        return base.float().add(total + size * _signs(total), alpha=0.5)
    sign, agree = agreeing(kept, coefficients[0])
    divisor = torch.tensordot(coefficients[1], agree.sign(), dims=1)
    merged = sign * agree.sum(dim=0) / (divisor + (1 - divisor.abs().sign()))  # 1 in place of 0
    result: Tensor = base.float() + merged
    return result


def _signs(total: Tensor) -> Tensor:
    """1 or -1 (...), float32, as the sign bits say; `copysign` takes four times as long."""
    bits = total.detach().float().view(torch.int32) & _SIGN_BIT
    return bits.bitwise_or_(_ONE).view(torch.float32)
