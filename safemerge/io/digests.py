"""Digests of tensors, remembered for as long as their file stays as it is.

A file counts as unchanged while its path, device, inode, size and both of its times are the same,
which is how git trusts its index; no program can set the time of change. A file that changed
shortly before it was read is not remembered: it could change again in the same tick of the clock.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safemerge.atomic import replacing
from safemerge.cache import cache_folder
from safemerge.errors import OutputError

log = logging.getLogger(__name__)

TIME_RESOLUTION_S = 2.0  # file systems have stored times to the second or, FAT, to two


@dataclass(frozen=True, slots=True)
class FileState:
    """A file at one moment."""

    file: Path  # as it was named
    path: Path  # with links followed
    stamp: tuple[int, ...]  # device, inode, size, times of modification and change
    settled: bool  # whether the last change was long enough ago to show in the times

    @classmethod
    def of(cls, file: Path) -> FileState:
        """What the file is now."""
        path = Path(os.path.realpath(file))
        stat = path.stat()
        changed = max(stat.st_mtime_ns, stat.st_ctime_ns)
        stamp = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        return cls(file, path, stamp, time.time_ns() - changed > TIME_RESOLUTION_S * 1e9)


def recall(state: FileState) -> dict[str, str]:
    """`{tensor: digest}` of a file, as far as known; empty where the file has changed."""
    try:
        record = json.loads(_place(state).read_bytes())
        if record["stamp"] == list(state.stamp):
            return {str(name): str(digest) for name, digest in record["digests"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass  # never remembered, or damaged: then it is hashed
    return {}


def remember(state: FileState, digests: Mapping[str, str]) -> None:
    """Keep the digests of a file that is still what it was in `state`; a full disk is no error."""
    try:
        if not state.settled or FileState.of(state.path).stamp != state.stamp:
            return
        with replacing(_place(state)) as file:
            json.dump({"stamp": state.stamp, "digests": dict(digests)}, file)
    except (OSError, OutputError) as error:
        log.warning("digests of %s are not kept: %s", state.path, error)


def _place(state: FileState) -> Path:
    name = hashlib.sha256(os.fsencode(state.path)).hexdigest()[:32]
    return cache_folder() / "digests" / f"{name}.json"
