"""Random masks from a seed, the same on every machine and device.

Numbers are drawn by numpy's SFC64 on the CPU, whose stream numpy keeps stable. A draw has 16 bits:
enough for a probability. Every half a million entries have a stream of their own, so that a piece
can be drawn by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safemerge.methods.common.weighted_sum import bytes_of_deltas

_STEPS = 1 << 16  # a probability is a multiple of 1 / _STEPS
_STREAM = 1 << 19  # entries of a stream
_LEVELS = 256  # of size within a row; an octave has 16, four of the seven bits of a bfloat16
_BLOCK = 1 << 18  # entries whose ranks are counted together


def keep_evenly(seed: int, density: float, delta: Tensor, begin: int = 0) -> Tensor:
    """Keep every entry of a delta (any shape) with the probability `density`, in [0, 1].

    `seed` is in [0, 2^63), and `begin` counts the entries of its tensor before those of `delta`.
    Returns uint8, 1 where the entry is kept.
    """
    limit = round(probability(density) * _STEPS)
    if limit in (0, _STEPS):
        return torch.full_like(delta, limit // _STEPS, dtype=torch.uint8)
    kept = np.empty(delta.numel(), np.bool_)
    for stream, inside, outside in _streams(begin, delta.numel()):
        kept[outside] = _below(seed, stream, inside.stop, limit)[inside]
    return torch.from_numpy(kept.view(np.uint8)).reshape(delta.shape).to(delta.device)


def keep_by_rank(
    seed: int, density: float, epsilon: float, delta: Tensor, begin: int = 0
) -> Tensor:
    """Keep entries of a delta with a probability that grows with their rank within their row.

    The smallest |delta| of a row is kept with probability density - epsilon, the largest with
    density + epsilon, linear in the rank between. Sizes are told apart by 16 steps an octave, down
    to 16 octaves below the largest of the row; entries of equal size have their mean rank. No
    probability is above 1 - 1 / 65536; a row of one entry is kept with probability density.

    Args:
        seed: in [0, 2^63).
        density: mean probability, in [0, 1].
        epsilon: at least 0; narrowed to min(density, 1 - density), and 0 below 1 / 65536.
        delta: any shape, float32; rows lie along the last dimension.
        begin: entries of its tensor before those of `delta`.

    Returns:
        uint8, 1 where the entry is kept.
    """
    half = min(epsilon, density, 1.0 - density)
    columns = delta.shape[-1] if delta.dim() else 1
    if half < 1.0 / _STEPS or columns < 2 or delta.numel() == 0:
        return keep_evenly(seed, density, delta, begin)
    rows = delta.reshape(-1, columns)
    drawn = _draw(seed, begin, delta.numel()).reshape(rows.shape)
    keep = torch.empty(rows.shape, dtype=torch.uint8, device=delta.device)
    step = max(1, _BLOCK // max(columns, _LEVELS)) if delta.device.type == "cpu" else len(rows)
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        level = _levels(rows[block])
        limit = _mean_ranks(level).mul_(2.0 * half * _STEPS / (columns - 1))
        # From the least draw on, which is -_STEPS / 2; rounded by cutting off what is over.
        limit.add_((density - half) * _STEPS + 0.5).clamp_(max=_STEPS - 1).floor_()
        below = limit.sub_(_STEPS // 2).short()
        uniform = torch.from_numpy(drawn[block]).to(delta.device)
        torch.lt(uniform, below.take(level), out=keep[block].view(torch.bool))
    return keep.reshape(delta.shape)


def _levels(rows: Tensor) -> Tensor:
    """The level of every entry's size, counted through all rows: row i has 256 i to 256 i + 255."""
    # Bits of floats that are not negative are in the same order as the floats.
    size = rows.bfloat16().view(torch.int16).bitwise_and_(0x7FFF).bitwise_right_shift_(3)
    lowest = size.amax(dim=1, keepdim=True) - (_LEVELS - 1)
    first = torch.arange(len(rows), device=rows.device)[:, None] * _LEVELS
    return size.sub_(lowest).clamp_(min=0) + first


def _mean_ranks(level: Tensor) -> Tensor:
    """The mean rank of the entries of each level of each row, (n_rows, 256), float32."""
    size = len(level) * _LEVELS
    count = torch.bincount(level.flatten(), minlength=size).reshape(-1, _LEVELS).float()
    return count.cumsum(dim=1).sub_(count, alpha=0.5).sub_(0.5)


def probability(density: float) -> float:
    """The multiple of 1 / 65536 nearest to a density: what `keep_evenly` keeps with."""
    return round(density * _STEPS) / _STEPS


def bytes_of_masks(shape: tuple[int, ...], n_sources: int) -> int:
    """Footprint of methods that hold deltas and masks: the draws of one source are held too."""
    return bytes_of_deltas(shape, n_sources) + math.prod(shape) * (n_sources + 4)


def masked(deltas: Tensor, keep: Tensor) -> Tensor:
    """The deltas (n_sources, ...) where `keep` is 1, else 0."""
    return keep.to(deltas.dtype, copy=True).mul_(deltas)


def _streams(begin: int, count: int) -> Iterator[tuple[int, slice, slice]]:
    """Streams of consecutive entries: number, the entries in it, where they lie among all."""
    for stream in range(begin // _STREAM, -(-(begin + count) // _STREAM)):
        first = stream * _STREAM
        start, stop = max(begin, first), min(begin + count, first + _STREAM)
        yield stream, slice(start - first, stop - first), slice(start - begin, stop - begin)


def _below(seed: int, stream: int, count: int, limit: int) -> NDArray[np.bool_]:
    """Whether the first draws of a stream are below `limit`, in [0, _STEPS); (count,).

    Two bytes: the lower one is drawn only where the upper one equals the limit's.
    """
    upper, lower = divmod(limit, 256)
    drawn = _raw(seed, (stream, 0), count, "u1")
    below: NDArray[np.bool_] = drawn < np.uint8(upper)
    if lower:
        undecided = np.flatnonzero(drawn == np.uint8(upper))
        below[undecided] = _raw(seed, (stream, 1), undecided.size, "u1") < np.uint8(lower)
    return below


def _draw(seed: int, begin: int, count: int) -> NDArray[np.int16]:
    """Uniform integers in [-_STEPS / 2, _STEPS / 2), (count,), of the entries from `begin` on."""
    drawn = np.empty(count, np.int16)
    for stream, inside, outside in _streams(begin, count):
        drawn[outside] = _raw(seed, (stream,), inside.stop, "<i2")[inside]
    return drawn


def _raw(seed: int, stream: tuple[int, ...], count: int, dtype: str) -> NDArray[Any]:
    """The first `count` integers of a stream."""
    random = np.random.SFC64(np.random.SeedSequence(seed, spawn_key=stream))
    words = -(-count * np.dtype(dtype).itemsize // 8)
    return np.asarray(random.random_raw(words), "<u8").view(dtype)[:count]
