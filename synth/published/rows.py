"""The rows of a table in any of the formats in which prompt sets are published."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from safemerge.errors import ProbeError

Row = tuple[str, dict[str, Any]]
"""Where it stands in the file, and its columns."""

_OPEN: dict[str, Callable[..., IO[Any]]] = {".gz": gzip.open, ".xz": lzma.open}
FORMATS = (".csv", ".jsonl", ".json", ".txt", ".parquet")


def read_rows(path: Path) -> list[Row]:
    """All rows of a .csv, .jsonl, .json (a list of objects), .txt (a prompt a line, in the column
    `prompt`) or .parquet file; those of text also packed, as .gz or .xz.

    Raises:
        ProbeError: in one sentence where the file is missing, damaged, empty or of another format.
    """
    opened = _OPEN.get(path.suffix, open)
    ending = path.with_suffix("").suffix if path.suffix in _OPEN else path.suffix
    if ending not in FORMATS:
        raise ProbeError(
            f"{path}: files of prompts are read as {', '.join(FORMATS)}, the first four also with "
            ".gz or .xz; name the published file"
        )
    try:
        if ending == ".parquet":
            rows = _parquet(path)
        else:
            with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
                rows = list(_READ[ending](file, path))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ProbeError(f"cannot read the file {path}: {reason}") from error
    except (ValueError, EOFError, csv.Error, lzma.LZMAError) as error:
        raise ProbeError(f"{path} is no whole {ending} file ({error}); fetch it again") from error
    if not rows:
        raise ProbeError(f"{path} has no rows; fetch it again")
    return rows


def _csv(file: IO[str], path: Path) -> Iterator[Row]:
    reader = csv.DictReader(file, strict=True)
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():
            raise ValueError(f"line {reader.line_num} has not as many fields as the first one")
        yield where, row


def _jsonl(file: IO[str], path: Path) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield _object(json.loads(line), f"{path}, line {number}")


def _json(file: IO[str], path: Path) -> Iterator[Row]:
    found = json.load(file)
    if not isinstance(found, list):
        raise ValueError("it holds no list")
    for number, row in enumerate(found, start=1):
        yield _object(row, f"{path}, entry {number}")


def _text(file: IO[str], path: Path) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        yield f"{path}, line {number}", {"prompt": line}


def _parquet(path: Path) -> list[Row]:
    from pyarrow.parquet import ParquetFile

    with open(path, "rb") as file:  # so that a missing one is an OSError like any other
        table = ParquetFile(file).read()
    return [(f"{path}, row {number}", row) for number, row in enumerate(table.to_pylist(), start=1)]


def _object(value: object, where: str) -> Row:
    if not isinstance(value, dict):
        raise ValueError(f"{where.rpartition(', ')[2]} is no object")
    return where, value


_READ = {".csv": _csv, ".jsonl": _jsonl, ".json": _json, ".txt": _text}
