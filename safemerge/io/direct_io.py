"""write_at: bytes to their place in a file, past the system's cache where it lets them."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# What O_DIRECT asks of place, length and memory: a multiple of the disk's block, 4096 at most.
_BLOCK = 4096
_CHUNK = 4 * 2**20
# Less than this goes through the cache: a wait for the disk would cost more than a copy.
_LEAST = 2**20

_own = threading.local()


def write_at(path: Path, data: NDArray[np.uint8], offset: int) -> None:
    """Write all of `data` (1-D) at a byte offset of a file that exists; from any thread.

    A checkpoint is flushed to disk before it gets its name, so its pages gain nothing from the
    cache. The whole blocks of a large tensor go to the disk directly, what is before and after
    through the cache; where there are no direct writes, all, and is flushed at once.
    """
    begin, end = -(-offset // _BLOCK) * _BLOCK, (offset + len(data)) // _BLOCK * _BLOCK
    if len(data) < _LEAST or not _write_blocks(path, data[begin - offset : end - offset], begin):
        _write_cached(path, data, offset)
        return
    _write_cached(path, data[: begin - offset], offset)
    _write_cached(path, data[end - offset :], end)


def _write_blocks(path: Path, data: NDArray[np.uint8], offset: int) -> bool:
    """Write whole blocks directly; False where the file system does not take them."""
    direct = getattr(os, "O_DIRECT", None)  # Linux and some others
    if direct is None:
        return False
    try:
        descriptor = os.open(path, os.O_WRONLY | direct)
        try:
            aligned = _aligned()
            for begin in range(0, len(data), _CHUNK):
                chunk = data[begin : begin + _CHUNK]
                np.copyto(aligned[: len(chunk)], chunk)
                _write(descriptor, aligned[: len(chunk)], offset + begin)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EINVAL:  # no direct writes, or only of larger blocks
            return False
        raise
    return True


def _write_cached(path: Path, data: NDArray[np.uint8], offset: int) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        _write(descriptor, data, offset)
        if len(data) >= _LEAST:
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: NDArray[np.uint8], offset: int) -> None:
    """All of it: Linux takes at most 2 GiB a call, and less before a full disk."""
    rest = data.data
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written


def _aligned() -> NDArray[np.uint8]:
    """Memory of this thread that begins at a page."""
    if not hasattr(_own, "memory"):
        _own.memory = np.frombuffer(mmap.mmap(-1, _CHUNK), np.uint8)
    memory: NDArray[np.uint8] = _own.memory
    return memory
