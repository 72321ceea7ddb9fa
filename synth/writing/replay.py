"""Replies are kept in a work file as they come, so that a stopped run loses nothing of them.

A run that starts again does everything again, but takes every reply that is in the file from there:
a `kill -9` loses at most the batch that was being generated. A line is found by a key over all that
decides its replies (weights, messages, sampling), so that changed settings give what still holds.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from safemerge.errors import OutputError
from synth.engines.base import Engine, SchemaEngine
from synth.judges.judge import Judge, check_counts
from synth.judges.reviewer import Reviewer
from synth.probes.probe import Axis
from synth.probes.verdict import Verdict

log = logging.getLogger(__name__)


class WorkFile:
    """Lists of texts by key, kept as lines of `{"key", "check", "texts"}`; only appended to.

    The file is made when the first line is kept; a path of None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, list[str]] = {}
        self._torn = False
        if path is not None and path.exists():
            self._read(path)

    def recall(self, key: list[Any], ask: Callable[[], Sequence[str]]) -> list[str]:
        """The texts kept under `key`, all that decides them, or else those of `ask`, kept then."""
        digest = _digest(key)
        if digest in self._known:
            return self._known[digest]
        # A lone surrogate, which no file can hold, becomes a question mark.
        texts = [text.encode("utf-8", "replace").decode() for text in ask()]
        if self._path is not None:
            self._append(self._path, digest, texts)
        return texts

    def recall_by(
        self, size: int, head: list[Any], columns: Sequence[Sequence[Any]], ask: Callable[..., Any]
    ) -> list[str]:
        """As `recall`, for rows of columns, of which `ask` is told at most `size` at once."""
        texts: list[str] = []
        for start in range(0, len(columns[0]), size):
            part = [list(column[start : start + size]) for column in columns]
            texts += self.recall([*head, *part], partial(ask, *part))
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


class RecordedEngine:
    """A `ChatEngine` that is asked at most `batch` messages at once and whose replies are kept."""

    def __init__(self, engine: Engine, work: WorkFile, batch: int) -> None:
        self._engine, self._work, self._batch = engine, work, batch
        self.weights = engine.fingerprint()

    def chat(
        self, prompts: Sequence[str], *, max_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """One reply for each prompt; see `Engine.chat`."""
        ask = partial(self._engine.chat, max_tokens=max_tokens, temperature=temperature)
        return self._replies(["chat", max_tokens, temperature], prompts, seed, ask)

    def choose(self, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[int]:
        """For each prompt the index of the likeliest choice; see `Engine.choose`."""

        def ask(*columns: Any) -> list[str]:
            return [str(pick) for pick in self._engine.choose(*columns)]

        head = [self.weights, "choose"]
        picks = self._work.recall_by(self._batch, head, (prompts, choices), ask)
        return [int(pick) for pick in picks]

    def _replies(
        self,
        settings: list[Any],
        prompts: Sequence[str],
        seed: int,
        ask: Callable[..., list[str]],
    ) -> list[str]:
        replies: list[str] = []
        for start in range(0, len(prompts), self._batch):
            batch = list(prompts[start : start + self._batch])
            # A seed of its own, because samples of repeated prompts differ within a batch only.
            batch_seed = int(_digest([seed, start])[:8], 16) >> 1 if start else seed
            key = [self.weights, *settings, batch_seed, batch]
            replies += self._work.recall(key, partial(ask, batch, seed=batch_seed))
        return replies


class RecordedSchemaEngine(RecordedEngine):
    """A `RecordedEngine` that is a `SchemaEngine` too."""

    def chat_json(
        self,
        prompts: Sequence[str],
        *,
        schema: Mapping[str, Any],
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """Replies held to a schema; see `SchemaEngine.chat_json`."""
        engine = self._engine
        assert isinstance(engine, SchemaEngine)  # see `recorded`
        ask = partial(
            engine.chat_json, schema=schema, max_tokens=max_tokens, temperature=temperature
        )
        return self._replies(["json", schema, max_tokens, temperature], prompts, seed, ask)


def recorded(engine: Engine, work: WorkFile, batch: int) -> RecordedEngine:
    """The engine, whose weights must not change, with its replies kept."""
    kind = RecordedSchemaEngine if isinstance(engine, SchemaEngine) else RecordedEngine
    return kind(engine, work, batch)


class RecordedJudge:
    """A `Judge` that is asked about at most `batch` answers at once and whose verdicts are kept."""

    def __init__(self, judge: Judge, work: WorkFile, batch: int) -> None:
        self._judge, self._work, self._batch = judge, work, batch
        self._fingerprint = judge.fingerprint()

    def judge(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        """One verdict for each answer; see `Judge.judge`."""
        check_counts(prompts, answers)
        columns = prompts, answers
        words = self._work.recall_by(self._batch, [self._fingerprint], columns, self._judge.judge)
        return [Verdict(word) for word in words]

    def fingerprint(self) -> str:
        """That of the judge."""
        return self._fingerprint


class RecordedReviewer:
    """A `Reviewer` that is asked about at most `batch` questions at once; what it says is kept."""

    def __init__(self, reviewer: Reviewer, work: WorkFile, batch: int) -> None:
        self._reviewer, self._work, self._batch = reviewer, work, batch
        self.reads, self.waives = reviewer.reads, reviewer.waives
        self._fingerprint = reviewer.fingerprint()

    def review(
        self, axis: Axis, questions: Sequence[str], topics: Sequence[str]
    ) -> list[str | None]:
        """See `Reviewer.review`."""

        def ask(*columns: Any) -> list[str]:
            return [reason or "" for reason in self._reviewer.review(axis, *columns)]

        head = [self._fingerprint, "review", axis]
        reasons = self._work.recall_by(self._batch, head, (questions, topics), ask)
        return [reason or None for reason in reasons]

    def fingerprint(self) -> str:
        """That of the reviewer."""
        return self._fingerprint


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
