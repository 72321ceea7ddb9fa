"""One command at a time writes a probe file: two would add to one work file."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safemerge.errors import OutputError
from safemerge.writable import check_writable


@contextmanager
def one_writer(path: Path) -> Iterator[None]:
    """Hold a probe file against other writers, by a lock of the kernel on `.<name>.lock` beside it.

    The lock's file stays: whoever removed it could let two others in, one on the old file and one
    on a new one. A finished probe file in a place that cannot be written needs no lock.

    Raises:
        OutputError: its folder cannot be written, or another command holds it.
    """
    if path.exists():
        yield
        return
    check_writable(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"another command is writing {path}; wait for it or stop it, or name another "
                "probes.path"
            ) from error
        yield
