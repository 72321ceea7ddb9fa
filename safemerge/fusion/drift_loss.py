"""The third term: experts stay near what they were, each by a weight of its own.

    R = sum over experts e of gamma_e ||W_e - W_e0||^2,

with W_e all entries of expert e and W_e0 these before training. 0 at the start. Tekin et al. 2024
(2411.17792) describe a regulariser with a weight for each expert that steers the mixture; that it
means the distance to the start is inferred. Their code penalises the norms themselves, see
`norm_loss`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def drift_loss(
    experts: Sequence[Tensor], starts: Sequence[Tensor], gammas: Sequence[float]
) -> Tensor:
    """Weighted squared distance of the experts from their start.

    Args:
        experts: parameters, each (E, ., .).
        starts: the same before training.
        gammas: E numbers, at least 0.

    Returns:
        A scalar, float32.
    """
    weights = torch.tensor(gammas, device=experts[0].device)
    squared = [
        (now.float() - was).square().sum(dim=(1, 2))
        for now, was in zip(experts, starts, strict=True)
    ]
    return (weights * torch.stack(squared).sum(dim=0)).sum()
