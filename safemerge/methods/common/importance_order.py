"""Positions of entries in the order of importance within their tensor: any share, in two bytes."""

from __future__ import annotations

import torch
from torch import Tensor

POSITIONS = 1 << 15
"""Positions are in [0, POSITIONS), the most important entries first; they fit an int16."""


def positions(importance: Tensor) -> Tensor:
    """Position of each entry in descending order of finite importance within its tensor (any
    shape).

    int16: POSITIONS times the share of entries that are more important or, but for the entry
    itself, equally so, rounded down. So equals come last together.
    """
    flat = importance.reshape(-1)
    count = flat.numel()
    less = torch.searchsorted(flat.sort().values, flat)
    position = (count - 1 - less) * POSITIONS // max(count, 1)
    return position.to(torch.int16).reshape(importance.shape)
