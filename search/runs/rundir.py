"""RunDir: a run directory, its locks, and how its files are written and read.

What lies in it is in docs/run-folder.md. Every file is written beside its place and renamed over
it, so a kill leaves the old one or the new one.
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

BASELINE = "baseline.json"  # ReferenceScores on the search probes, measured once
_ORPHANS_S = 10.0  # in which workers whose search was killed notice it and end
_T = TypeVar("_T")
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


class RunDir:
    """A run directory that may not exist yet."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def journal(self) -> Path:
        return self.path / "study.journal"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run against a second runner; a RunError where another process holds it."""
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
    def turn(self, *, wait_s: float | None = None) -> Iterator[bool]:
        """Wait for this process's turn at the study: one worker asks or tells at a time.

        Wait outside of `uninterrupted`, so that a Ctrl-C ends it. With `wait_s` the wait is no
        longer than that, and what is yielded says whether the turn has come.
        """
        with (self.path / ".turn").open("w") as handle:
            if wait_s is None:
                yield _flock(handle, fcntl.LOCK_EX)
            else:
                yield _flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, wait_s=wait_s)

    def write(self, name: str, record: object) -> None:
        """Write a value, such as a dataclass or a mapping of scores, as JSON."""
        plain = to_jsonable_python(record)
        self.write_text(name, json.dumps(plain, indent=1, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a text file, flushed to disk."""
        with replacing(self.path / name) as file:
            file.write(text)

    def read(self, name: str) -> Any:
        """A record, None without it; a RunError where it is not JSON."""
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged ({error}); restore it or start a new run") from error

    def load(
        self, name: str, kind: type[_T], *, remedy: str = "restore it or start a new run"
    ) -> _T | None:
        """What `write` has written, None without it; a RunError where it is of another type."""
        record = self.read(name)
        if record is None:
            return None
        try:
            value: _T = _adapter(kind).validate_python(record)
        except ValidationError as error:
            raise RunError(
                f"{self.path / name} was written by another version of safemerge, or is damaged; "
                f"{remedy}"
            ) from error
        return value

    def require(self, name: str, kind: type[_T]) -> _T:
        """As `load`; a RunError, with the command that makes it, where there is none."""
        value = self.load(name, kind)
        if value is None:
            raise RunError(f"{self.path} has no {name}; run `safemerge search CONFIG` first")
        return value

    def write_trial(
        self,
        number: int,
        recipe: Recipe,
        scores: Mapping[str, Score],
        by_probe: Mapping[str, Sequence[float]],
    ) -> None:
        """Record a finished trial; scores.json, which makes it complete, comes last.

        `by_probe` is empty where not all probes were asked.
        """
        self.write_text(f"{_trial(number)}/recipe.json", recipe.canonical_json() + "\n")
        if by_probe:
            self.write_text(f"{_trial(number)}/by_probe.json", json.dumps(by_probe) + "\n")
        self.write(f"{_trial(number)}/scores.json", scores)

    def write_same(self, number: int, other: int) -> None:
        """Record that a trial has the recipe, and therefore the scores, of an earlier one."""
        self.write(f"{_trial(number)}/same_as.json", {"trial": other})

    def write_failure(self, number: int, recipe: Recipe | None, reason: str) -> None:
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

    def finished(self, number: int) -> bool:
        """Whether a trial is complete."""
        return (self.path / _trial(number) / "scores.json").exists()

    def trial_by_probe(self, number: int) -> dict[str, list[float]] | None:
        """`{metric: values}` of a trial's search probes; None where not all were asked."""
        return self.load(f"{_trial(number)}/by_probe.json", dict[str, list[float]])

    def write_validation(self, number: int, by_probe: Mapping[str, Sequence[float]]) -> None:
        """Record a trial's likelihoods on the validation probes."""
        self.write(f"{_trial(number)}/validation.json", by_probe)

    def trial_validation(self, number: int) -> dict[str, list[float]] | None:
        """`{metric: values}` of a trial's validation probes; None where they were not asked."""
        return self.load(f"{_trial(number)}/validation.json", dict[str, list[float]])


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
