"""Benchmark files: texts that no probe may repeat, or the benchmark would measure memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safemerge.errors import ProbeError
from synth.probes.jsonl import read_jsonl

_WORDS = 4  # what is shorter is a label or an answer, which a question may well contain


def read_benchmarks(paths: Sequence[str]) -> tuple[str, ...]:
    """Every text of at least four words in some files.

    Of the objects of `.jsonl` every string counts, however deep; any other file is plain UTF-8 text
    with one question a line.

    Raises:
        ProbeError: for a file that cannot be read, is damaged, or holds no such text.
    """
    texts: dict[str, None] = {}
    for path in map(Path, paths):
        long = [text for text in _texts(path) if len(text.split()) >= _WORDS]
        if not long:
            raise ProbeError(
                f"the benchmark file {path} holds no text of {_WORDS} words or more; give JSON "
                "Lines or one question a line, or take it out of gates.benchmarks"
            )
        texts.update(dict.fromkeys(long))
    return tuple(texts)


def _texts(path: Path) -> Iterator[str]:
    if path.suffix == ".jsonl":
        for _, row in read_jsonl(path):
            yield from _strings(row)
        return
    try:
        yield from path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ProbeError(f"cannot read the file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ProbeError(
            f"the benchmark file {path} is not UTF-8 text ({error.reason} at byte {error.start}); "
            "give JSON Lines (.jsonl) or plain text"
        ) from error


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
