"""What a safetensors file holds, read from its header; and one tensor, read into owned memory.

The format (https://huggingface.co/docs/safetensors): 8 bytes little-endian header length, a JSON
header, then the data. Offsets are read only from a header that the library's own parser accepts.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from safemerge.errors import CheckpointError

# Names of the format, narrowest alignment first: the order in which safetensors ranks them.
DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "C64": torch.complex64,
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
}
FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor as a header names it; `()` is the shape of a scalar."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class TensorInfo(TensorSpec):
    """One tensor of a checkpoint, known without reading its data."""

    file: Path
    offset: int | None  # where its data begins, in bytes of the file; None in a pickle

    @property
    def is_float(self) -> bool:
        """Whether it can be merged; integer buffers are passed through from the base."""
        return self.dtype in FLOATS


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Every tensor of one safetensors file, by name; no tensor data is read."""
    try:
        # numpy, because opening has no need of a framework; nothing is converted.
        with safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header: dict[str, Any] = json.loads(file.read(length))
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} {_damage(path, error)}; download or copy it again"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    infos: dict[str, TensorInfo] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype = DTYPES.get(entry["dtype"])
        if dtype is None:
            raise CheckpointError(
                f"tensor {name!r} in {path} has type {entry['dtype']}, which cannot be merged; "
                "convert the checkpoint to bfloat16 or float32 first"
            )
        begin, _ = entry["data_offsets"]
        infos[name] = TensorInfo(name, tuple(entry["shape"]), dtype, path, 8 + length + begin)
    return infos


def read_pieces(info: TensorInfo, entries: int) -> Iterator[torch.Tensor]:
    """One tensor of a safetensors file as flat pieces of entries, each in memory of its own."""
    assert info.offset is not None  # pickles are served by pickles.py
    count = math.prod(info.shape)
    try:
        with info.file.open("rb", buffering=0) as file:
            file.seek(info.offset)
            for begin in range(0, count, entries):
                piece = torch.empty(min(entries, count - begin), dtype=info.dtype)
                _fill(piece.view(torch.uint8).numpy().data, file, info)
                yield piece
    except OSError as error:
        raise CheckpointError(f"{info.file} cannot be read: {error.strerror}") from error


def map_tensor(info: TensorInfo) -> torch.Tensor:
    """One tensor of a safetensors file, mapped: read when it is touched, dropped by the system.

    A change of the file is a change of the tensor; writing to the tensor leaves the file alone.
    """
    assert info.offset is not None  # pickles are served by pickles.py
    if not info.nbytes:
        return torch.empty(info.shape, dtype=info.dtype)
    try:
        data = np.memmap(info.file, np.uint8, "c", info.offset, (info.nbytes,))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{info.file} cannot be mapped into memory: {error}") from error
    # As numpy sees it, it begins at an entry, whatever page of the file that lies in.
    return torch.frombuffer(data, dtype=info.dtype).reshape(info.shape)


def _fill(view: memoryview, file: FileIO, info: TensorInfo) -> None:
    """Read on until `view` is full."""
    done = 0
    while done < len(view):  # Linux hands out at most 2 GiB per call
        got = file.readinto(view[done:])
        if not got:
            raise CheckpointError(
                f"{info.file} ended inside tensor {info.name!r}; it changed while it was read, "
                "wait until it is complete and try again"
            )
        done += got


def _damage(path: Path, error: SafetensorError) -> str:
    """What is wrong with a file that safetensors refuses, as the middle of a sentence."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        if len(prefix) < 8:
            return f"is truncated: it has {size} bytes, less than any safetensors file"
        (length,) = struct.unpack("<Q", prefix)
        if length > size - 8:
            return (
                f"is truncated or its header is damaged: the header should have {length} bytes "
                f"and the file has {size}"
            )
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key[:2] != "__"]
            needed = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return f"has a damaged header ({error})"
    if isinstance(needed, int) and needed > size:
        return f"is truncated: its header promises {needed} bytes and it has {size}"
    return f"has a damaged header ({error})"
