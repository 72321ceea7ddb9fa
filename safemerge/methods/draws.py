"""Random masks from a seed, the same on every machine and device. Ours.

Numbers are drawn by numpy's SFC64 on the CPU, whose stream numpy keeps stable, and which is ten
times as fast there as torch's generator. A draw has 16 bits: enough for a probability. Every half a
million entries have a stream of their own, so that a piece can be drawn by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safemerge.methods.blocks import BLOCK
from safemerge.methods.deltas import bytes_of_deltas

_STEPS = 1 << 16  # a probability is a multiple of 1 / _STEPS
_STREAM = 1 << 19  # entries of a stream; to begin one takes as long as to draw 25 000


def keep_evenly(seed: int, density: float, delta: Tensor, begin: int = 0) -> Tensor:
    """Keep every entry of a delta with the same probability.

    Args:
        seed: in [0, 2^63).
        density: the probability, in [0, 1]; 0 keeps nothing, 1 everything.
        delta: any shape; its values play no part.
        begin: entries of its tensor that come before the first one of `delta`.

    Returns:
        uint8, 1 where the entry is kept.
    """
    limit = round(probability(density) * _STEPS)
    if limit in (0, _STEPS):
        return torch.full_like(delta, limit // _STEPS, dtype=torch.uint8)
    kept = np.empty(delta.numel(), np.bool_)
    for stream, inside, outside in _streams(begin, delta.numel()):
        kept[outside] = _below(seed, stream, inside.stop, limit)[inside]
    return torch.from_numpy(kept.view(np.uint8)).reshape(delta.shape).to(delta.device)


def keep_by_rank(seed: int, density: float, epsilon: float, delta: Tensor) -> Tensor:
    """Keep entries of a delta with a probability that grows with their rank within their row.

    The smallest |delta| of a row is kept with probability density - epsilon, the largest with
    density + epsilon, linear in the rank between; entries of equal size all have the highest rank
    among them. A row of one entry is kept with probability density.

    Args:
        seed: in [0, 2^63).
        density: mean probability, in [0, 1].
        epsilon: at least 0; narrowed to min(density, 1 - density), so that no probability leaves
            [0, 1]. Below 1 / 65536, which no draw resolves, it counts as 0.
        delta: any shape, float32; rows lie along the last dimension.

    Returns:
        uint8, 1 where the entry is kept.
    """
    half = min(epsilon, density, 1.0 - density)
    columns = delta.shape[-1] if delta.dim() else 1
    if half < 1.0 / _STEPS or columns < 2 or delta.numel() == 0:
        return keep_evenly(seed, density, delta)
    # An entry of rank r is kept where u < density - half + 2 half r / (columns - 1). Solved for r,
    # this asks for the smallest rank that is kept at u, and one sort of the values answers whether
    # an entry has it: ranks themselves would take an argsort, three times as slow.
    per_rank = (columns - 1) / (2.0 * half)
    rows = delta.reshape(-1, columns)
    drawn = _draw(seed, delta.numel()).reshape(rows.shape)
    keep = torch.empty(rows.shape, dtype=torch.uint8, device=delta.device)
    step = max(1, BLOCK // columns) if delta.device.type == "cpu" else len(rows)
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        size = rows[block].abs()
        uniform = torch.from_numpy(drawn[block].astype(np.float32)).to(delta.device)
        # The smallest rank above a number is one more than its whole part, which `long` takes.
        above = uniform.mul_(per_rank / _STEPS).add_(1.0 - (density - half) * per_rank)
        least = _ascending(size).gather(1, above.clamp_(0.0, columns).long())
        torch.ge(size, least, out=keep[block].view(torch.bool))
    return keep.reshape(delta.shape)


def probability(density: float) -> float:
    """The multiple of 1 / 65536 nearest to a density: what `keep_evenly` keeps with."""
    return round(density * _STEPS) / _STEPS


def bytes_of_masks(shape: tuple[int, ...], n_sources: int) -> int:
    """Footprint of methods that hold deltas and masks: the draws of one source are held too."""
    return bytes_of_deltas(shape, n_sources) + math.prod(shape) * (n_sources + 4)


def masked(deltas: Tensor, keep: Tensor) -> Tensor:
    """The deltas (n_sources, ...) where `keep` is 1, else 0."""
    # Of mixed types torch would take four times as long.
    return keep.to(deltas.dtype, copy=True).mul_(deltas)


def _ascending(size: Tensor) -> Tensor:
    """Every row in ascending order, and infinity after its end: (rows, columns + 1)."""
    if size.device.type != "cpu":
        return torch.nn.functional.pad(size.sort(dim=1).values, (0, 1), value=torch.inf)
    # numpy's sort is vectorised, where torch's also carries indices: eight times as fast. Bits of
    # floats that are not negative are in the same order as the floats, and need no care for NaN.
    # It is a tenth faster on rows that lie one after another than on those of the result.
    rows = size.numpy().copy()
    rows.view(np.int32).sort(axis=1)
    ordered = torch.empty(size.shape[0], size.shape[1] + 1)
    ordered[:, :-1] = torch.from_numpy(rows)
    ordered[:, -1] = torch.inf
    return ordered


def _streams(begin: int, count: int) -> Iterator[tuple[int, slice, slice]]:
    """Which streams some consecutive entries draw from: its number, the entries in it, and where
    they lie among all."""
    for stream in range(begin // _STREAM, -(-(begin + count) // _STREAM)):
        first = stream * _STREAM
        start, stop = max(begin, first), min(begin + count, first + _STREAM)
        yield stream, slice(start - first, stop - first), slice(start - begin, stop - begin)


def _below(seed: int, stream: int, count: int, limit: int) -> NDArray[np.bool_]:
    """Whether the first draws of a stream are below `limit`, in [0, _STEPS); (count,).

    A draw's upper byte decides, but where it equals the limit's: only there the lower one is drawn,
    which takes half the time of drawing both.
    """
    upper, lower = divmod(limit, 256)
    drawn = _raw(seed, (stream, 0), count, "u1")
    below: NDArray[np.bool_] = drawn < np.uint8(upper)
    if lower:
        undecided = np.flatnonzero(drawn == np.uint8(upper))
        below[undecided] = _raw(seed, (stream, 1), undecided.size, "u1") < np.uint8(lower)
    return below


def _draw(seed: int, count: int) -> NDArray[np.uint16]:
    """Uniform integers in [0, _STEPS), (count,)."""
    drawn = np.empty(count, np.uint16)
    for stream, inside, outside in _streams(0, count):
        drawn[outside] = _raw(seed, (stream,), inside.stop, "<u2")
    return drawn


def _raw(seed: int, stream: tuple[int, ...], count: int, dtype: str) -> NDArray[Any]:
    """The first `count` integers of a stream."""
    random = np.random.SFC64(np.random.SeedSequence(seed, spawn_key=stream))
    words = -(-count * np.dtype(dtype).itemsize // 8)
    return np.asarray(random.random_raw(words), "<u8").view(dtype)[:count]
