"""A folder that appears whole or not at all.

Work happens in a hidden sibling, `.<name>.partial-<random>`, which takes the final name in one
rename. It is locked while its process lives, so a later run removes what a killed one left behind.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from safemerge.errors import OutputError
from safemerge.writable import check_writable

# No space, over quota, over the file-size limit: the disk is full as far as the user is concerned.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: OSError) -> bool:
    """Whether an error says that no more can be written."""
    return error.errno in _FULL


def check_output(out: Path, needed: int = 0) -> None:
    """Refuse an output folder that cannot be written, with the bytes `needed`. Leaves nothing.

    Raises:
        OutputError: it is a file, is not empty, its parent is not writable, or space is short.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; choose a folder for the output")
    try:
        if out.is_dir() and any(out.iterdir()):
            raise OutputError(f"{out} is not empty; choose another folder")
    except PermissionError as error:
        raise OutputError(f"{out} cannot be read ({error.strerror}); choose another") from error
    check_writable(out.parent if out.exists() else out)
    if needed > free_bytes(out):
        raise full_disk(out, needed)


def full_disk(out: Path, needed: int) -> OutputError:
    """The error for a disk without room; where one filled up, once the partial is removed."""
    return OutputError(
        f"the disk of {out} is full: the output needs {needed} bytes and {free_bytes(out)} can be "
        "used (a quota or a file size limit may allow less); free some space or choose another "
        "disk. Nothing was left behind"
    )


def free_bytes(out: Path) -> int:
    """What the disk can take on which `out` lies or would lie."""
    return shutil.disk_usage(_existing_parent(out)).free


def _existing_parent(out: Path) -> Path:
    """The nearest folder above `out` that exists, links followed."""
    return next(path for path in Path(os.path.realpath(out)).parents if path.exists())


@dataclass(slots=True)
class Partial:
    """A folder being made."""

    folder: Path  # where to put files now
    out: Path  # the name it will get
    made: list[Path]  # parents that were created for it, outermost first
    lock: int  # descriptor that holds the lock on `folder`

    @classmethod
    def begin(cls, out: Path) -> Partial:
        """Make and lock the hidden sibling; remove what killed writers left."""
        out = Path(os.path.realpath(out))  # a link to an empty folder stays a link
        made = [folder for folder in reversed(out.parents) if not folder.exists()]
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(out)
        # Locked under another name first: nobody mistakes it for abandoned in between.
        token = secrets.token_hex(4)
        fresh = out.with_name(f".{out.name}.new-{token}")
        fresh.mkdir()
        partial = cls(fresh, out, made, os.open(fresh, os.O_RDONLY | os.O_DIRECTORY))
        try:
            fcntl.flock(partial.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partial.folder = fresh.rename(out.with_name(f".{out.name}.partial-{token}"))
        except BaseException:  # such as a network disk without locks
            partial.discard()
            raise
        return partial

    def commit(self) -> None:
        """Flush every file to the disk and give the folder its final name."""
        for path in sorted(self.folder.rglob("*")):
            _sync(path)
        os.fsync(self.lock)
        # Replaces an empty folder, fails on any other. From here `discard` would remove `out`.
        self.folder = self.folder.rename(self.out)
        _sync(self.out.parent)
        os.close(self.lock)

    def discard(self) -> None:
        """Remove everything that was made."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.lock)
        for folder in reversed(self.made):
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(out: Path) -> None:
    prefix = f".{out.name}.partial-"
    for folder in [path for path in out.parent.iterdir() if path.name.startswith(prefix)]:
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue  # gone already, or somebody else's
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # its writer is alive
        finally:
            os.close(lock)
