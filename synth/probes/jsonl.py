"""JSON Lines in and out: damaged lines are named, files are written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jsonlines
from pydantic import BaseModel, ValidationError

from safemerge.atomic import replacing
from safemerge.errors import ProbeError, SafemergeError
from safemerge.recipe import first_problem

Record = TypeVar("Record", bound=BaseModel)


def read_jsonl(
    path: Path, damaged: Callable[[str], None] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, object) for each line that is not blank; place is "FILE, line N".

    `damaged`, if given, is told of every line that is no JSON object, which is then left out.

    Raises:
        ProbeError: if the file cannot be read or a line is not a JSON object.
    """
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                try:
                    yield where, _parse(line, where)
                except ProbeError as error:
                    if damaged is None:
                        raise
                    damaged(str(error))
    except OSError as error:
        raise ProbeError(f"cannot read the file {path}: {error.strerror}") from error


def read_records(
    path: Path, kind: type[Record], refusal: type[SafemergeError] = ProbeError
) -> list[Record]:
    """The objects of a file as records of one kind.

    Raises:
        ProbeError: if the file cannot be read or a line is not a JSON object.
        SafemergeError: of the class `refusal`, if an object is no such record.
    """
    records = []
    for where, row in read_jsonl(path):
        try:
            records.append(kind.model_validate(row))
        except ValidationError as error:
            raise refusal(f"{where}: {first_problem(error)}; mend or delete it") from error
    return records


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows whole, or not at all: then as an OutputError, and an older file stays."""
    with replacing(path) as file, jsonlines.Writer(file) as writer:
        writer.write_all(rows)


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        with jsonlines.Reader([line]) as reader:
            row: dict[str, Any] = reader.read(type=dict)
    except (jsonlines.InvalidLineError, RecursionError) as error:
        # The reader sees one line at a time, so its own line number says nothing.
        reason = str(error).removesuffix(" (line 1)")
        raise ProbeError(f"{where}: not a JSON object ({reason}); mend or delete it") from error
    return row
