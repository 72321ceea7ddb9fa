"""Optuna's journal of a run: written so that a kill loses no line, and mended where it is damaged.

Optuna numbers studies and trials by the order of lines. So a line that cannot be read can be left
out where nothing follows it, as after a crash, and nowhere else.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

from safemerge.errors import RunError

log = logging.getLogger(__name__)

_TAIL = 2**16  # bytes read at a time while looking for the end of the last whole line


class Journal(JournalFileBackend):
    """Optuna's journal file, with a lock of the kernel, which a kill frees at once.

    A line that a kill or a full disk has left half written is cut off before the next is added:
    Optuna itself would add to it and could then read neither.
    """

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines; only for those that begin or end a trial it waits for the disk."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with open(self._file_path, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _cut_torn_line(file.fileno())
            file.seek(0, os.SEEK_END)
            file.write(lines.encode("utf-8"))
            file.flush()
            if any("state" in log for log in logs):
                os.fsync(file.fileno())


def _cut_torn_line(handle: int) -> None:
    size = end = os.fstat(handle).st_size
    while end > 0:
        start = max(0, end - _TAIL)
        newline = os.pread(handle, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(handle, end)


def mend_journal(path: Path) -> None:
    """Cut damaged lines off the end of a journal, and say which; nobody else may have it open.

    Raises:
        RunError: a damaged line has others after it, with the line's number and what still works.
    """
    if not path.exists():
        return
    # What comes after the last end of a line is half written: the next line added cuts it off.
    lines = [line + b"\n" for line in path.read_bytes().split(b"\n")[:-1]]
    records = [_record(line) for line in lines]
    first = _first_unusable(records)
    if first is None:
        return
    if any(record is not None for record in records[first + 1 :]):
        raise RunError(
            f"{path}, line {first + 1} is damaged, and the lines after it mean nothing without it; "
            "restore the file, or start a new run with --run NAME and search.start_from = "
            f"{str(path.parent)!r}, which takes over what is finished (`status`, `front` and "
            "`export` of this run work as before)"
        )
    log.warning(
        "%s is damaged from line %d on, where it ends; that is cut off, and the %d lines before it "
        "are used",
        path,
        first + 1,
        first,
    )
    os.truncate(path, sum(map(len, lines[:first])))


def _record(line: bytes) -> dict[str, Any] | None:
    """What a line holds, or None where that is no record."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _first_unusable(records: Sequence[dict[str, Any] | None]) -> int | None:
    """Index of the first line that Optuna cannot read; None where it can read them all."""
    unread = next((i for i, record in enumerate(records) if record is None), len(records))
    sound = [record for record in records[:unread] if record is not None]
    try:
        JournalStorage(_Records(sound))
    # Whatever Optuna raises at a record that is not one of its own.
    except Exception:
        one_by_one = _Records(sound, shown=0)
        storage = JournalStorage(one_by_one)
        for index in range(len(sound)):
            one_by_one.shown = index + 1
            try:
                storage.get_all_studies()
            except Exception:
                return index
    return None if unread == len(records) else unread


class _Records(BaseJournalBackend):
    """A journal in memory, of which Optuna sees the first records; only read."""

    def __init__(self, records: Sequence[dict[str, Any]], shown: int | None = None) -> None:
        self._records = records
        self.shown = len(records) if shown is None else shown

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        yield from self._records[log_number_from : self.shown]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise NotImplementedError  # the protocol asks for it; these records are only read
