"""Where every byte of a checkpoint will lie, worked out before the first tensor exists.

A file laid out here is, byte for byte, what safetensors' own writer makes of the same tensors.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safemerge.errors import OutputError
from safemerge.io.header import DTYPES, TensorSpec

_CODES = {dtype: code for code, dtype in DTYPES.items()}
_RANKS = {dtype: rank for rank, dtype in enumerate(DTYPES.values())}


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of the output."""

    file: str  # its name in the folder
    header: bytes  # the bytes before the data, length prefix included
    offsets: Mapping[str, int]  # where each tensor begins, in bytes from the start of the file
    nbytes: int  # size of the whole file


def plan_shards(layout: Sequence[TensorSpec], shard_bytes: int) -> list[Shard]:
    """Cut tensors into files, in the given order, as `save_pretrained` does.

    Args:
        layout: what will be written; at least one, no name twice.
        shard_bytes: most tensor data per file, > 0; a larger tensor gets a file of its own.
    """
    seen: set[str] = set()
    groups: list[list[TensorSpec]] = [[]]
    used = 0
    for spec in layout:
        if spec.name in seen:
            raise OutputError(f"tensor {spec.name!r} is in the output's layout twice; name it once")
        if spec.dtype not in _CODES:
            raise OutputError(
                f"tensor {spec.name!r} has type {spec.dtype}, which safetensors cannot hold; "
                "write it as float32 or bfloat16"
            )
        seen.add(spec.name)
        if groups[-1] and used + spec.nbytes > shard_bytes:
            groups.append([])
            used = 0
        groups[-1].append(spec)
        used += spec.nbytes
    if not seen:
        raise OutputError("the output's layout has no tensors; there is nothing to write")
    if len(groups) == 1:
        return [_shard("model.safetensors", layout)]
    return [
        _shard(f"model-{i:05d}-of-{len(groups):05d}.safetensors", group)
        for i, group in enumerate(groups, start=1)
    ]


def index_json(layout: Sequence[TensorSpec], shards: Sequence[Shard]) -> str:
    """The text of `model.safetensors.index.json`."""
    weight_map = {name: shard.file for shard in shards for name in shard.offsets}
    sizes = {
        "total_parameters": sum(math.prod(spec.shape) for spec in layout),
        "total_size": sum(spec.nbytes for spec in layout),
    }
    content = {"metadata": sizes, "weight_map": weight_map}
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _shard(file: str, specs: Sequence[TensorSpec]) -> Shard:
    # Widest type first keeps every tensor aligned; then by name, as safetensors does.
    ordered = sorted(specs, key=lambda spec: (-_RANKS[spec.dtype], spec.name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begins: dict[str, int] = {}
    end = 0
    for spec in ordered:
        begins[spec.name] = end
        end += spec.nbytes
        header[spec.name] = {
            "dtype": _CODES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [begins[spec.name], end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    offsets = {name: start + begin for name, begin in begins.items()}
    return Shard(file, struct.pack("<Q", len(text)) + text, offsets, start + end)
