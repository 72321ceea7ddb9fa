"""Where a study is kept: a journal in the run directory (the default), SQLite or PostgreSQL.

The journal's lock is one of the kernel, on the journal itself, so a kill frees it at once. A line
that a kill or a full disk has left half written is cut off before the next one is added: Optuna
itself would add to it and could then read neither.
"""

from __future__ import annotations

import fcntl
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend

from safemerge.errors import ConfigError, RunError, require
from search.config import SearchConfig
from search.runs.rundir import RunDir
from search.samplers.choose import make_sampler

_SQLITE_WAIT_S = 60.0  # for somebody else who looks at the database; workers take turns
_OWNER = "run"  # attribute of a study in a database: the folder of its run
_TAIL = 2**16  # bytes read at a time while looking for the end of the last whole line


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna logs every trial to stderr and warns that parts of it are experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def check_storage(storage: str) -> None:
    """Open the database that `search.storage` names, if it names one, before any work.

    Raises:
        ConfigError: a database that cannot be opened.
        MissingDependency: PostgreSQL without its driver, with the install line.
    """
    if storage != "journal":
        _open_database(storage)


def open_study(home: RunDir, config: SearchConfig, *, worker: int = 0) -> optuna.Study:
    """The run's study, made where there is none yet.

    Args:
        home: the run; its lock.json is written.
        config: of the run.
        worker: number of the process; every one draws from a seed of its own.
    """
    name = home.require("lock.json", made_by="safemerge search CONFIG").get("study", "search")
    url = config.search.storage
    with quiet_optuna():
        study = optuna.create_study(
            study_name=name,
            storage=_open_journal(home.journal) if url == "journal" else _open_database(url),
            load_if_exists=True,
            directions=[
                "maximize" if larger_is_better else "minimize"
                for larger_is_better in config.directions.values()
            ],
        )
        study.sampler = make_sampler(config, len(study.get_trials(deepcopy=False)), worker)
    return study


def check_no_copy(home: RunDir, storage: str, study: optuna.Study) -> None:
    """Refuse a copy of a run whose study is in a database, which both folders would write to.

    Raises:
        RunError: where the study's folder is another one, and is still there.
    """
    if storage == "journal":
        return  # a copy has its own
    here, owner = str(home.path.resolve()), study.user_attrs.get(_OWNER)
    if owner == here:
        return
    lock = None if owner is None else RunDir(owner).read("lock.json")
    if lock is not None and lock.get("study") == study.study_name:
        raise RunError(
            f"{home.path} is a copy of {owner}, and both have their trials in the study "
            f"{study.study_name!r} of {storage}; go on there, or start a new run "
            "with --run NAME"
        )
    study.set_user_attr(_OWNER, here)


def _open_journal(path: Path) -> optuna.storages.BaseStorage:
    return optuna.storages.JournalStorage(Journal(str(path)))


def _open_database(url: str) -> optuna.storages.BaseStorage:
    options = {}
    named = url
    if url.startswith("sqlite"):
        options = {"connect_args": {"timeout": _SQLITE_WAIT_S}}
    else:
        require("psycopg", extra="postgresql")
        # The driver by name: which one a bare postgresql:// means differs between versions.
        named = url.replace("postgresql://", "postgresql+psycopg://", 1)
    try:
        with quiet_optuna():
            return optuna.storages.RDBStorage(named, engine_kwargs=options)
    # Whatever a driver raises: the place was named in the config, and it does not open.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"search.storage = {url!r} cannot be opened: {reason}") from error


class Journal(JournalFileBackend):  # type: ignore[misc]  # Optuna has no types
    """Optuna's journal file, with a lock of the kernel and whole lines only.

    A trial's parameters are a line each, a hundred of them. They are held back until the next line
    of another kind, and written with it: to lock, write and read the file for each of 143 took 24
    of the 62 CPU milliseconds that a trial of random search needs besides its scoring.
    """

    def __init__(self, file_path: str) -> None:
        super().__init__(file_path)
        self._held: list[dict[str, Any]] = []  # lines that are not written yet
        self._told = 0  # how many of them Optuna has read back
        self._missed: list[dict[str, Any]] = []  # of others, before those in the file, to be read
        self._read = 0  # lines of the file that Optuna has read,
        self._size = 0  # and the size of the file then

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines; on return those that begin or end a trial, and all before them, are on disk.

        Optuna waits for the disk after every line. What a kill finds written stays written; this
        is about a loss of power.
        """
        self._held += logs
        if all("param_name" in log for log in logs):
            return
        before = self._append(self._held)
        known, self._held, self._told = self._told, [], 0
        # What was told already is read past, so that the next read begins behind it; what others
        # have written before it meanwhile is kept for that read.
        for i, log in enumerate(islice(super().read_logs(self._read), before + known)):
            self._read += 1
            if i < before:
                self._missed.append(log)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Lines of the file from a number on, then those that are held back."""
        missed, self._missed = self._missed, []
        self._read = log_number_from - self._told + len(missed)
        yield from missed
        size = os.stat(self._file_path).st_size
        if not self._held or size != self._size:
            for log in super().read_logs(self._read):
                self._read += 1
                yield log
            self._size = size
        for log in self._held[self._told :]:
            self._told += 1
            yield log

    def _append(self, logs: list[dict[str, Any]]) -> int:
        """Write lines; how many others have written since the file was read last."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with open(self._file_path, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _cut_torn_line(file.fileno())
            grown = os.fstat(file.fileno()).st_size != self._size
            before = sum(1 for _ in super().read_logs(self._read)) if self._told and grown else 0
            file.seek(0, os.SEEK_END)
            file.write(lines.encode("utf-8"))
            file.flush()
            if any("state" in log for log in logs):
                os.fsync(file.fileno())
        return before


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
