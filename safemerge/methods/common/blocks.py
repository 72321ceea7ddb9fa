"""Passes over large tensors in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import torch

BLOCK = 1 << 17
"""Entries of a block: the temporaries of a few sources stay in a processor's cache, and calls into
torch are few enough."""

_DEVICE_BLOCK = 1 << 26  # elsewhere blocks only limit memory: a float32 temporary takes 256 MiB


def blocks(
    count: int, device: torch.device, threads: int = 1, entries: int = BLOCK
) -> Iterator[slice]:
    """Slices that cover `count` entries in order, small ones on a CPU.

    `threads` share a block. Sums must leave it at 1: their last digits hang on the blocks, and the
    same recipe gives the same bytes with any number of threads.
    """
    step = entries * threads if device.type == "cpu" else _DEVICE_BLOCK
    for start in range(0, count, step):
        yield slice(start, start + step)
