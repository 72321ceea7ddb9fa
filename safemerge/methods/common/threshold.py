"""Magnitude thresholds without a sort, and what they keep.

After the selection of Floyd and Rivest 1975: a sample brackets the wanted order statistic, one pass
collects the few entries inside, and the statistic is selected among those. It is exact.
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
_SIGMAS = 3.0  # half width of the bracket: one in four hundred fails


def magnitude_at(values: Tensor, positions: Sequence[int]) -> list[float]:
    """`sort(|values|)[position]`, exactly, for positions in [0, numel); float32, not empty."""
    if values.device.type != "cpu":
        ordered = values.abs().reshape(-1).sort().values
        return [ordered[position].item() for position in positions]
    flat = values.reshape(-1).numpy()
    if flat.size <= _SMALL:
        return [float(np.sort(np.abs(flat))[position]) for position in positions]
    return [select_magnitude(flat, position, _bracket(flat, position)) for position in positions]


def select_magnitude(
    flat: NDArray[np.float32], position: int, bracket: tuple[float, float]
) -> float:
    """`sort(|flat|)[position]`, sooner where it lies in a bracket (low, high), 0 <= low <= high.

    The ends are counted apart: deltas of bfloat16 models have few distinct magnitudes, and a large
    share of all entries may equal one of them.
    """
    low, high = map(np.float32, bracket)
    below = up_to_low = up_to_high = 0
    parts = []
    size = np.empty(BLOCK, np.float32)
    for start in range(0, flat.size, BLOCK):
        block = flat[start : start + BLOCK]
        magnitude = np.abs(block, out=size[: block.size])
        below += int(np.count_nonzero(magnitude < low))
        inside = magnitude > low
        up_to_low += block.size - int(np.count_nonzero(inside))
        up_to_high += int(np.count_nonzero(magnitude <= high))
        inside &= magnitude < high
        parts.append(magnitude[inside])
    between = np.concatenate(parts)
    if below <= position < up_to_low:
        return float(low)
    if up_to_low <= position < up_to_low + between.size:
        return float(np.sort(between)[position - up_to_low])
    if up_to_low + between.size <= position < up_to_high:
        return float(high)
    return float(np.partition(np.abs(flat), position)[position])


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


def keep_window(deltas: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The deltas (n_sources, ...), with 0 where |delta| lies outside of its source's [low, high].

    Both bounds are (n_sources,); a `low` of infinity keeps nothing.
    """
    kept = []
    # hardshrink keeps |delta| > bound in one vectorised pass, without a mask.
    for delta, least, most in zip(deltas, low.tolist(), high.tolist(), strict=True):
        bound = float(np.nextafter(np.float32(least), np.float32(-1))) if least > 0 else 0.0
        window = hardshrink(delta, bound)
        kept.append(window if math.isinf(most) else window - hardshrink(delta, most))
    return torch.stack(kept)
