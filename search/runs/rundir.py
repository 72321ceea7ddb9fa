"""RunDir: a run directory, what is in it, and how it is written.

    config.toml  lock.json  baseline.json  study.journal  start.json  warmstart.json
    trials/00042/  recipe.json  scores.json  error.txt (only if failed)
                   by_probe.json (what the scores are means of, where all probes were asked)
                   same_as.json (only where an earlier trial has the same recipe and was scored)
    validation/    answers to the validation probes, of base, sources and trials near the front;
                   asked.json, here and in heldout/, names the engine and the judges
    heldout/       answers to the held-out probes, a file for each row of the table
    warmstart/     linearisations of a warm start that is under way
    baselines/     runs that this one is compared with
    front/search.json  front/heldout.json  logs/worker-0.log (only with several workers)

Every file is written beside its place and renamed over it, so a kill leaves the old one or the
new one. A trial folder is complete if and only if scores.json exists. No weights lie inside, unless
an export is written there.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from safemerge.atomic import replacing
from safemerge.errors import OutputError, RunError
from safemerge.recipe import Recipe
from safemerge.score import Score

_ORPHANS_S = 10.0  # in which workers whose search was killed notice it and end
_T = TypeVar("_T")
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


class RunDir:
    """A run directory that may not exist yet."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def journal(self) -> Path:
        """Optuna's journal file."""
        return self.path / "study.journal"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run against a second runner; the kernel frees it when this process dies.

        A RunError where another process holds it; an OutputError where the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / ".lock").open("a+")
        except OSError as error:
            raise OutputError(f"cannot write the run directory {self.path}: {error}") from error
        with handle:
            if not _flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB):
                raise self._in_use(handle)
            handle.truncate(0)
            handle.write(f"process {os.getpid()} on {socket.gethostname()}")
            handle.flush()
            with (self.path / ".workers").open("w") as workers:
                if not _flock(workers, fcntl.LOCK_EX | fcntl.LOCK_NB, wait_s=_ORPHANS_S):
                    raise RunError(
                        f"workers of a search that was killed still run on {self.path}; stop them "
                        "and try again"
                    )
            yield

    def check_free(self) -> None:
        """Refuse a run that another process holds, before models are opened beside its own."""
        try:
            handle = (self.path / ".lock").open()
        except FileNotFoundError:
            return
        with handle:
            if not _flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB):
                raise self._in_use(handle)

    def _in_use(self, handle: IO[str]) -> RunError:
        handle.seek(0)
        holder = handle.read() or "another process"
        return RunError(
            f"{self.path} is in use by {holder}; wait for it, stop it, or name another run with "
            "--run (for several processes on one run, start it with --workers N)"
        )

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Be one of the workers of whoever holds the run."""
        with (self.path / ".workers").open("w") as handle:
            _flock(handle, fcntl.LOCK_SH)
            yield

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for this process's turn at the study: one worker asks or tells at a time.

        So no trial goes beyond the budget, and a RUNNING trial without a worker's mark was asked
        for by a worker that is dead.
        """
        with (self.path / ".turn").open("w") as handle:
            _flock(handle, fcntl.LOCK_EX)
            yield

    def write(self, name: str, record: object) -> None:
        """Write a value, such as a dataclass or a mapping of scores, as JSON, atomically."""
        plain = to_jsonable_python(record)
        self.write_text(name, json.dumps(plain, indent=1, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a text file, atomically and flushed to disk."""
        with replacing(self.path / name) as file:
            file.write(text)

    def read(self, name: str) -> Any:
        """A record, None where the file does not exist; a RunError where it is not JSON."""
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged ({error}); restore it or start a new run") from error

    def load(self, name: str, kind: type[_T]) -> _T | None:
        """What `write` has written, None without it; a RunError where it is of another type."""
        record = self.read(name)
        if record is None:
            return None
        try:
            value: _T = _adapter(kind).validate_python(record)
        except ValidationError as error:
            raise RunError(
                f"{self.path / name} was written by another version of safemerge, or is damaged; "
                "restore it or start a new run"
            ) from error
        return value

    def require(self, name: str, *, made_by: str) -> Any:
        """A record; a RunError, with the command that makes it, where there is none."""
        record = self.read(name)
        if record is None:
            raise self.missing(name, made_by)
        return record

    def missing(self, name: str, made_by: str) -> RunError:
        """What to raise where a record does not exist, saying which command makes it."""
        return RunError(f"{self.path} has no {name}; run `{made_by}` first")

    def write_trial(
        self,
        number: int,
        recipe: Recipe,
        scores: Mapping[str, Score],
        by_probe: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """Record a finished trial; scores.json, which makes it complete, comes last."""
        self.write_text(f"{_trial(number)}/recipe.json", recipe.canonical_json() + "\n")
        if by_probe is not None:
            self.write_text(f"{_trial(number)}/by_probe.json", json.dumps(by_probe) + "\n")
        self.write(f"{_trial(number)}/scores.json", scores)

    def write_same(self, number: int, other: int) -> None:
        """Record that a trial has the recipe, and therefore the scores, of an earlier one."""
        self.write(f"{_trial(number)}/same_as.json", {"trial": other})

    def write_failure(self, number: int, recipe: Recipe | None, reason: str) -> None:
        """Record why a trial failed."""
        if recipe is not None:
            self.write_text(f"{_trial(number)}/recipe.json", recipe.canonical_json() + "\n")
        self.write_text(f"{_trial(number)}/error.txt", reason.rstrip() + "\n")

    def trial_recipe(self, number: int) -> Recipe:
        """Recipe of a trial; a RunError where the run has no such trial."""
        path = self.path / _trial(number) / "recipe.json"
        if not path.exists():
            last = sorted(folder.name for folder in (self.path / "trials").glob("*"))
            known = f"trials 0 to {int(last[-1])}" if last else "no trials"
            raise RunError(f"{self.path} has no trial {number}; it has {known}")
        return Recipe.from_json(path.read_text(encoding="utf-8"), where=str(path))

    def trial_scores(self, number: int) -> dict[str, Score] | None:
        """Scores of a trial, or None where it did not finish."""
        return self.load(f"{_trial(number)}/scores.json", dict[str, Score])

    def trial_by_probe(self, number: int) -> dict[str, list[float]] | None:
        """Values of a trial's search probes by metric; None where not all were asked."""
        return self.load(f"{_trial(number)}/by_probe.json", dict[str, list[float]])


def _flock(handle: IO[str], how: int, *, wait_s: float = 0.0) -> bool:
    """Lock an open file; False where somebody else holds it, after trying for a while."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(handle, how)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        else:
            return True


def _trial(number: int) -> str:
    return f"trials/{number:05d}"
