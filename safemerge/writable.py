"""Whether a folder can be written, found out before any work by writing to it."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from safemerge.errors import OutputError

_BYTES = 4096  # a block: a full disk may still take an empty file


def check_writable(folder: Path) -> None:
    """Refuse a folder in which nothing can be written, or, where it is not there, cannot be made.

    A file of one block is written to the nearest folder that exists, flushed and removed: rights
    alone do not say what a read-only, full or foreign file system does, nor what root may do.

    Raises:
        OutputError: with the cause as the system gives it.
    """
    path = Path(os.path.realpath(folder))
    nearest = next(part for part in (path, *path.parents) if os.path.lexists(part))
    trial = nearest / f".safemerge-{secrets.token_hex(4)}"
    try:
        handle = os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.write(handle, bytes(_BYTES))
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        at = "" if nearest == path else f", since nothing can be written to {nearest}"
        raise OutputError(
            f"{folder} cannot be written{at}: {error.strerror or error}; choose another folder, or "
            "put that right"
        ) from error
    finally:
        with suppress(OSError):
            trial.unlink()
