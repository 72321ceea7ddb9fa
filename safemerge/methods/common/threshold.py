"""Magnitude thresholds without a sort, and what they keep.

A sample brackets the wanted order statistic; one pass counts what lies below the bracket and
collects the few entries inside, and the statistic is selected among those. The value is exactly
that of a full sort, whatever the sample. Ours, after the selection of Floyd and Rivest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import hardshrink

from safemerge.methods.common.blocks import BLOCK

_SMALL = 1 << 15  # entries; below this the bracket costs more than it saves
_SIGMAS = 3.0  # half width of the bracket: one in four hundred fails, and is moved


def magnitude_at(values: Tensor, positions: Sequence[int]) -> list[float]:
    """Entries of |values| in ascending order, at given positions.

    Args:
        values: any shape, float32, at least one entry.
        positions: in [0, numel).

    Returns:
        For each position, exactly `sort(|values|)[position]`.
    """
    if values.device.type != "cpu":
        ordered = values.abs().reshape(-1).sort().values
        return [ordered[position].item() for position in positions]
    flat = values.reshape(-1).numpy()
    return [_select(flat, position) for position in positions]


def keep_window(deltas: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The deltas, with 0 wherever |delta| lies outside of its source's [low, high].

    Args:
        deltas: (n_sources, ...).
        low: (n_sources,), float32, at least 0; infinity keeps nothing.
        high: (n_sources,); infinity has no upper bound.
    """
    kept = []
    # hardshrink keeps |delta| > bound in one vectorised pass, where a mask and a product take four.
    for delta, least, most in zip(deltas, low.tolist(), high.tolist(), strict=True):
        bound = float(np.nextafter(np.float32(least), np.float32(-1))) if least > 0 else 0.0
        window = hardshrink(delta, bound)
        kept.append(window if math.isinf(most) else window - hardshrink(delta, most))
    return torch.stack(kept)


def _select(flat: NDArray[np.float32], position: int) -> float:
    if flat.size <= _SMALL:
        return float(np.sort(np.abs(flat))[position])
    low, high = _bracket(flat, position)
    while True:
        below, up_to_low, inside, up_to_high = _between(flat, low, high)
        if position < below:
            low, high = 0.0, low
        elif position < up_to_low:
            return low
        elif position < up_to_low + inside.size:
            return float(np.sort(inside)[position - up_to_low])
        elif position < up_to_high:
            return high
        else:
            low, high = high, math.inf


def _bracket(flat: NDArray[np.float32], position: int) -> tuple[float, float]:
    """Two sampled magnitudes between which the statistic very probably lies."""
    count = int(flat.size ** (2 / 3))
    # Drawn, not strided: a stride would sample few columns of a matrix. The seed changes only time.
    drawn = np.random.Generator(np.random.SFC64(0)).integers(0, flat.size, count)
    sample = np.sort(np.abs(flat[drawn]))
    share = position / flat.size
    middle, margin = share * count, _SIGMAS * math.sqrt(share * (1 - share) * count) + 1
    low, high = math.floor(middle - margin), math.ceil(middle + margin)
    return (
        float(sample[low]) if low >= 0 else 0.0,
        float(sample[high]) if high < count else math.inf,
    )


def _between(
    flat: NDArray[np.float32], low: float, high: float
) -> tuple[int, int, NDArray[np.float32], int]:
    """How many magnitudes are < low and <= low, those in (low, high), and how many are <= high.

    The ends are counted apart: deltas of bfloat16 models have few distinct magnitudes, and a large
    share of all entries may equal one of them.
    """
    below = up_to_low = up_to_high = 0
    found = []
    size = np.empty(BLOCK, np.float32)
    least, most = np.float32(low), np.float32(high)
    for start in range(0, flat.size, BLOCK):
        block = flat[start : start + BLOCK]
        magnitude = np.abs(block, out=size[: block.size])
        below += int(np.count_nonzero(magnitude < least))
        above = magnitude > least
        up_to_low += block.size - int(np.count_nonzero(above))
        up_to_high += int(np.count_nonzero(magnitude <= most))
        above &= magnitude < most
        found.append(magnitude[above])
    return below, up_to_low, np.concatenate(found), up_to_high
