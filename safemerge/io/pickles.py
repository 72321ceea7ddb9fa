"""Weights in `.bin` pickles, read only when the caller allows it.

`torch.load(weights_only=True)` restricts a pickle to tensors and plain containers, which is much
safer and not a proof; hence the explicit permission.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch

from safemerge.errors import CheckpointError


def read_pickle(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of one `.bin` file of torch 1.6 or later, mapped from disk rather than read."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        first_line = (str(error).splitlines() or ["unreadable"])[0]
        raise CheckpointError(
            f"{path} cannot be loaded as tensors only ({first_line}); "
            "convert the checkpoint to safetensors"
        ) from error
    if not isinstance(loaded, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in loaded.items()
    ):
        raise CheckpointError(
            f"{path} is not a mapping of names to tensors; convert the checkpoint to safetensors"
        )
    return loaded
