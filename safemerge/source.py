"""One source of a merge, opened: how its tensors, and their deltas to the base's, are read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from safemerge.io import Adapter, Checkpoint, TokenMap, beyond_range, check_finite, is_finite
from safemerge.names import is_vocabulary
from safemerge.recipe import ModelRef


@dataclass(frozen=True, slots=True)
class Source:
    """A model or adapter that fits its base."""

    ref: ModelRef
    stored: Checkpoint | Adapter  # the base's own where it is the base, as in an average
    base: Checkpoint
    tokens: TokenMap | None = None  # to the base's vocabulary; None where it is the same
    importance: Checkpoint | None = None  # its file; None where the recipe names none

    @property
    def is_base(self) -> bool:
        """Whether it is the base itself, which is read once."""
        return self.stored is self.base

    def needs_base(self, name: str) -> bool:
        """Whether a tensor can only be read beside the whole of the base's."""
        return isinstance(self.stored, Adapter) or self._map(name) is not None

    def _map(self, name: str) -> TokenMap | None:
        return self.tokens if is_vocabulary(name) else None

    def read(self, name: str, base: Tensor) -> Tensor:
        """One tensor in the base's vocabulary; of an adapter, its delta."""
        if self.is_base:
            return base
        if isinstance(self.stored, Adapter):
            return self.stored.delta(name, base, self.tokens)
        tensor, tokens = load_finite(self.stored, name), self._map(name)
        return tensor if tokens is None else tokens.to_base(tensor.float(), base.float())

    def model_tensor(self, name: str, base: Tensor) -> Tensor:
        """The same of a whole model, of an adapter base + delta in the base's dtype."""
        tensor = self.read(name, base)
        if isinstance(self.stored, Adapter):
            exact = base.float() + tensor
            cast = exact.to(base.dtype)
            if not is_finite(cast):
                raise beyond_range(f"the tensor {name!r} with {self.ref.path} added", cast, exact)
            return cast
        return tensor

    def pieces(self, name: str, entries: int, base: Tensor | None) -> Iterator[Tensor]:
        """`read` in flat pieces of entries; the base's is needed where `needs_base` says so."""
        if base is not None and (self.is_base or self.needs_base(name)):
            return cut(self.read(name, base), entries)
        assert isinstance(self.stored, Checkpoint)  # by `needs_base`
        return finite_pieces(self.stored, name, entries)

    def write_delta(self, delta: Tensor, read: Tensor, base: Tensor) -> None:
        """Put the delta (n,) of what `pieces` read into float32 memory; `base` is float32, too."""
        delta.copy_(read.to(delta.device))  # moved in the stored dtype: less
        if not isinstance(self.stored, Adapter):
            delta.sub_(base)

    def stored_bytes(self, name: str) -> int:
        """Size of what it stores of one tensor."""
        if isinstance(self.stored, Adapter):
            return self.stored.stored_bytes(name)
        return self.stored.tensors[name].nbytes

    def held_bytes(self, name: str) -> int:
        """Memory that it takes, beside its pieces, while it is read."""
        wide = 4 * math.prod(self.base.tensors[name].shape)
        if isinstance(self.stored, Adapter):
            return self.stored_bytes(name) + 2 * wide  # the delta, and B @ A
        if self._map(name) is None:
            return 0
        return self.stored_bytes(name) + 3 * wide  # rows of source, base, result


def load_finite(checkpoint: Checkpoint, name: str) -> Tensor:
    """One tensor as stored; a CheckpointError where a value is NaN or infinite."""
    tensor = checkpoint.load(name)
    check_finite(name, tensor, checkpoint.folder)
    return tensor


def finite_pieces(checkpoint: Checkpoint, name: str, entries: int) -> Iterator[Tensor]:
    """`load_finite` in flat pieces of entries."""
    for piece in checkpoint.pieces(name, entries):
        if not is_finite(piece):
            load_finite(checkpoint, name)  # counts all that are not
        yield piece


def cut(tensor: Tensor, entries: int) -> Iterator[Tensor]:
    """Views of a tensor in flat pieces of entries."""
    flat = tensor.reshape(-1)
    return (flat[begin : begin + entries] for begin in range(0, flat.numel(), entries))
