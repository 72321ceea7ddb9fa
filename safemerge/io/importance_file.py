"""Importance files: an int16 tensor for each merged tensor of the base, of the same name and shape.

`synth.importance` makes them; `importance_order` in methods/common says what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from safemerge.atomic import beside
from safemerge.errors import CheckpointError, OutputError
from safemerge.io.header import read_header
from safemerge.io.reader import Checkpoint

_REMEDY = "write it for this base with `safemerge importance`"


def open_importance(path: str | Path, base: Checkpoint, names: Sequence[str]) -> Checkpoint:
    """Open an importance file and check that it has the base's merged tensors, called `names`."""
    path = Path(path)
    tensors = read_header(path)
    for name in names:
        info, shape = tensors.get(name), base.tensors[name].shape
        if info is None:
            raise CheckpointError(f"{path} says nothing of the tensor {name!r}; {_REMEDY}")
        if info.shape != shape or info.dtype != torch.int16:
            raise CheckpointError(
                f"{path} has {name!r} as {info.dtype} {list(info.shape)}, where int16 "
                f"{list(shape)} is needed; {_REMEDY}"
            )
    return Checkpoint(path.parent, str(path), {}, tensors, frozenset())


def save_importance(path: str | Path, positions: Mapping[str, Tensor]) -> None:
    """Write `{name: int16 tensor}` of every merged tensor, whole or not at all."""
    path = Path(path)
    try:
        with beside(path) as temporary:
            save_file(dict(positions), temporary, metadata={"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write {path}: {error}") from error
