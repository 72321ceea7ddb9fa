"""Positions in the order of importance: the form in which methods get what gradients say.

Methods that mask by importance ask whether an entry is among the most important share of its
tensor. Its position answers that for every share, in two bytes, and needs no threshold in a trial.
"""

from __future__ import annotations

import torch
from torch import Tensor

POSITIONS = 1 << 15
"""Positions are in [0, POSITIONS), the most important entries first; they fit an int16."""


def positions(importance: Tensor) -> Tensor:
    """Position of each entry in descending order of importance within its tensor.

    Args:
        importance: any shape, finite.

    Returns:
        int16, same shape: POSITIONS times the share of entries that are more important or, but for
        the entry itself, equally so, rounded down. Equals come last together, so that what does not
        matter at all is not chosen by its place.
    """
    flat = importance.reshape(-1)
    count = flat.numel()
    less = torch.searchsorted(flat.sort().values, flat)
    position = (count - 1 - less) * POSITIONS // max(count, 1)
    return position.to(torch.int16).reshape(importance.shape)
