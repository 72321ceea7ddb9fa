"""An append-only file of what models have said so far, so that a stopped run loses nothing of it.

Making probes is a function of what the models reply. So a run that starts again does everything
again, but takes every reply that is in the file from there: a `kill -9` loses at most the batch
that was being generated. A line is found by a key over all that decides its replies (weights,
messages, sampling), so that a file of another run, or of one whose settings were changed since,
gives what still holds and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safemerge.errors import OutputError

log = logging.getLogger(__name__)


class WorkFile:
    """Lists of texts by key, kept as lines of `{"key", "check", "texts"}`.

    Args:
        path: the file, made when the first line is kept; None keeps nothing.

    Raises:
        OutputError: if there is a file that cannot be read.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, list[str]] = {}
        self._torn = False
        if path is not None and path.exists():
            self._read(path)

    def recall(self, key: list[Any], ask: Callable[[], Sequence[str]]) -> list[str]:
        """The texts that are kept under `key`, or those of `ask`, which are then kept.

        Args:
            key: anything that JSON can write; all that decides the texts.
            ask: called where nothing is kept.

        Raises:
            OutputError: if the file cannot be written.
        """
        digest = _digest(key)
        if digest in self._known:
            return self._known[digest]
        texts = [writable(text) for text in ask()]
        if self._path is not None:
            self._append(self._path, digest, texts)
        return texts

    def remove(self) -> None:
        """Delete the file: what it held is in the probe file now."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _read(self, path: Path) -> None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise OutputError(f"cannot read the work file {path}: {error.strerror}") from error
        self._torn = bool(content) and not content.endswith(b"\n")
        for number, line in enumerate(content.split(b"\n"), start=1):
            if not line:
                continue
            try:
                row = json.loads(line)
                key, texts = row["key"], row["texts"]
                sound = _digest(texts) == row["check"]
            except (ValueError, KeyError, TypeError, RecursionError):
                sound = False
            if sound:
                self._known[key] = texts
            else:
                log.warning(
                    "%s, line %d is damaged or half-written; it is left out, its models are asked "
                    "again and the other lines are used",
                    path,
                    number,
                )

    def _append(self, path: Path, digest: str, texts: list[str]) -> None:
        row = {"key": digest, "check": _digest(texts), "texts": texts}
        line = json.dumps(row).encode() + b"\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab") as file:
                # Begin on a line of its own, after one that a kill has cut off.
                file.write(b"\n" + line if self._torn else line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        self._torn = False
        self._known[digest] = texts


def writable(text: str) -> str:
    """`text` with lone surrogates, which no file can hold, as question marks."""
    return text.encode("utf-8", "replace").decode()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
