"""Tensors that took long to compute, kept on disk under a hash of what they were computed from."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

log = logging.getLogger(__name__)

_PARTIAL_S = 3600.0  # a partial file this old was left by a process that was killed


def content_key(tensors: Mapping[str, Tensor], settings: object) -> str:
    """Hash of some tensors' names, shapes, types and bytes, and of the settings' `repr`, in hex."""
    digest = hashlib.sha256(repr(settings).encode())
    for name, tensor in tensors.items():
        digest.update(repr((name, tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class TensorStore:
    """A folder of tensors, of at most `limit_gb` gigabytes (1e9 bytes).

    Over it, the files that nobody has used for longest go first, but never one that this store was
    asked for.
    """

    folder: Path
    limit_gb: float = 20.0
    _asked: set[str] = field(default_factory=set, init=False, repr=False)

    def kept(
        self,
        key: str,
        compute: Callable[[], Mapping[str, Tensor]],
        device: torch.device | str = "cpu",
    ) -> dict[str, Tensor]:
        """The tensors under a key, computed once and read from disk.

        Args:
            key: of `content_key`, over all that `compute` depends on, its own version included.
            compute: called where there are none.
            device: where they are wanted; a CPU maps the file into memory.
        """
        path = self.folder / f"{key}.safetensors"
        self._asked.add(path.name)
        known = _read(path)
        if known is not None:
            return {name: tensor.to(device) for name, tensor in known.items()}
        tensors = dict(compute())
        try:
            self._keep(path, tensors)
        except (OSError, SafetensorError) as error:  # a cache that is full or read-only is no cache
            log.warning("results are not kept: cannot write %s (%s)", path, error)
            return tensors
        # Mapped from now on: what the page cache may drop, the memory that they took may not.
        mapped = _read(path) if torch.device(device).type == "cpu" else None
        return tensors if mapped is None else mapped

    def _keep(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Written beside and renamed: two runs may compute the same at once."""
        size = sum(tensor.nbytes for tensor in tensors.values())
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._make_room(size):
            return
        temporary = path.with_suffix(f".partial-{secrets.token_hex(4)}")
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def _make_room(self, size: int) -> bool:
        """Delete what is oldest until `size` more bytes fit; False where they cannot.

        Another process may delete or add files meanwhile, so a file that is gone is no error.
        """
        entries: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):
                stat = path.stat()
                entries.append((stat.st_mtime, stat.st_size, path))
        excess = sum(used for _, used, _ in entries) + size - self.limit_gb * 1e9
        for used_at, used, path in sorted(entries):
            if excess <= 0:
                break
            abandoned = ".partial-" in path.name and used_at < time.time() - _PARTIAL_S
            if abandoned or (path.suffix == ".safetensors" and path.name not in self._asked):
                path.unlink(missing_ok=True)
                excess -= used
        return excess <= 0


def _read(path: Path) -> dict[str, Tensor] | None:
    """The stored tensors, or None where there are none or the file is damaged."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
    # A damaged entry is computed again, never trusted. RuntimeError: torch maps the file after
    # safetensors has read its header, and another process may delete it in between.
    except (SafetensorError, OSError, RuntimeError):
        return None
    with suppress(OSError):  # deleted meanwhile, or a folder that is shared and read-only
        os.utime(path)  # used now: last in the order of deletion
    return tensors
