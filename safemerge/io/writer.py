"""A checkpoint written tensor by tensor, that exists only when it is complete.

The layout is declared first, so every tensor goes straight to its place in its shard. Any exception
inside the `with`, an interrupt included, leaves nothing under the final name.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from safemerge.errors import OutputError
from safemerge.io.direct_io import write_at
from safemerge.io.header import TensorSpec
from safemerge.io.layout import index_json, plan_shards
from safemerge.io.partial import Partial, check_output, full_disk, is_full

SHARD_BYTES = 5 * 10**9  # what save_pretrained and the Hub use


class CheckpointWriter:
    """Context manager that writes one checkpoint folder.

    >>> with CheckpointWriter(out, layout=[TensorSpec("w", (2, 2), torch.float32)]) as writer:
    ...     writer.add("w", torch.zeros(2, 2))
    ...     (writer.folder / "config.json").write_text("{}")
    """

    def __init__(
        self, out: Path, *, layout: Sequence[TensorSpec], shard_bytes: int = SHARD_BYTES
    ) -> None:
        """Plan the files; nothing is written before the `with` is entered.

        Args:
            out: folder to create, parents included; it may exist if it is empty.
            layout: every tensor that will be added. Its order decides the sharding, nothing else.
            shard_bytes: most tensor data in one file, > 0.
        """
        if shard_bytes <= 0:
            raise OutputError(f"shard_bytes is {shard_bytes}; it must be positive")
        self._out = out
        self._layout = tuple(layout)
        self._shards = plan_shards(self._layout, shard_bytes)
        self._needed = sum(shard.nbytes for shard in self._shards)
        specs = {spec.name: spec for spec in self._layout}
        self._places = {
            name: (specs[name], shard) for shard in self._shards for name in shard.offsets
        }
        self._missing = dict.fromkeys(specs)
        self._partial: Partial | None = None

    @property
    def folder(self) -> Path:
        """Where sidecars go while the `with` is open; it vanishes or is renamed at its end."""
        if self._partial is None:
            raise OutputError("the writer is not open; use it as `with CheckpointWriter(...)`")
        return self._partial.folder

    def __enter__(self) -> Self:
        """Check the output (`check_output`) and lay out the files."""
        check_output(self._out, self._needed)
        try:
            self._partial = Partial.begin(self._out)
            for shard in self._shards:
                with (self._partial.folder / shard.file).open("xb") as file:
                    file.write(shard.header)
        except BaseException as error:
            self._abort()
            if isinstance(error, OSError):
                raise self._explain(error) from error
            raise
        return self

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Write one tensor to its place; any order, each name once, any device, from any thread.

        Raises:
            OutputError: it is not what the layout declares, or the disk is full.
        """
        folder = self.folder
        if name not in self._places:
            raise OutputError(f"tensor {name!r} is not in the output's layout; declare it first")
        if name not in self._missing:
            raise OutputError(f"tensor {name!r} was written before; add each tensor once")
        spec, shard = self._places[name]
        if tuple(tensor.shape) != spec.shape or tensor.dtype != spec.dtype:
            raise OutputError(
                f"tensor {name!r} is {tensor.dtype} {list(tensor.shape)}, and the output's layout "
                f"declares {spec.dtype} {list(spec.shape)}; convert it before adding it"
            )
        data = tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy()
        try:
            write_at(folder / shard.file, data, shard.offsets[name])
        except OSError as error:
            if is_full(error):
                raise  # __exit__ frees the space first and then says how much there is
            raise self._explain(error) from error
        del self._missing[name]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the folder its name, or remove every trace of it.

        Raises:
            OutputError: tensors are missing, the disk is full, or `out` was filled meanwhile.
        """
        if error is not None:
            self._abort()
            if isinstance(error, OSError) and is_full(error):
                raise self._explain(error) from error
            return
        try:
            self._finish(self.folder)
        except BaseException as failure:
            self._abort()
            if isinstance(failure, OSError):
                raise self._explain(failure) from failure
            raise
        self._partial = None

    def _finish(self, folder: Path) -> None:
        if self._missing:
            first = next(iter(self._missing))
            raise OutputError(
                f"{len(self._missing)} of {len(self._places)} tensors were never written, the "
                f"first is {first!r}; add every tensor of the layout"
            )
        if len(self._shards) > 1:
            text = index_json(self._layout, self._shards)
            (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
        assert self._partial is not None
        self._partial.commit()

    def _abort(self) -> None:
        if self._partial is not None:
            self._partial.discard()
            self._partial = None

    def _explain(self, error: OSError) -> OutputError:
        """An operating system's refusal to write, as a sentence."""
        if is_full(error):
            return full_disk(self._out, self._needed)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return OutputError(f"{self._out} was filled while it was written; choose another")
        return OutputError(f"{self._out} cannot be written: {error.strerror}")
