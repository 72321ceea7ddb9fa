"""One source of a merge, opened: how its tensors, and their deltas to the base's, are read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from safemerge.io import (
    Adapter,
    Checkpoint,
    TokenMap,
    finite_pieces,
    load_finite,
)
from safemerge.low_rank import LowRank
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

    def changes(self, name: str) -> bool:
        """False for a tensor that it certainly leaves alone: it is the base, or an adapter."""
        if isinstance(self.stored, Adapter):
            return bool(self.stored.stored_names(name))
        return not self.is_base

    def low_rank(self, name: str, device: torch.device | str = "cpu") -> LowRank | None:
        """The delta of one tensor by its factors; None where it is not given by any."""
        if not self._has_factors(name):
            return None
        assert isinstance(self.stored, Adapter)
        return self.stored.low_rank(name, self.base.tensors[name].shape, device)

    def needs_base(self, name: str) -> bool:
        """Whether a tensor can only be read beside the whole of the base's."""
        if isinstance(self.stored, Adapter):
            return not self._has_factors(name)
        return self._map(name) is not None

    def _has_factors(self, name: str) -> bool:
        """Whether `low_rank` gives a delta."""
        if not isinstance(self.stored, Adapter) or (self._map(name) and self.changes(name)):
            return False
        return self.stored.has_factors(name, self.base.tensors[name].shape)

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
        if isinstance(self.stored, Adapter):
            return self.stored.applied(name, base, self.tokens)
        return self.read(name, base)

    def pieces(
        self,
        name: str,
        entries: int,
        base: Tensor | None,
        device: torch.device | str = "cpu",
    ) -> Iterator[Tensor]:
        """`read` in flat pieces of entries; the base's is needed where `needs_base` says so.

        Factors are multiplied on the device; what is stored comes from where it is.
        """
        factors = self.low_rank(name, device)
        if factors is not None:
            return factors.pieces(entries)
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
        if self._has_factors(name):
            return 3 * self.stored_bytes(name)  # as stored, in float32
        if isinstance(self.stored, Adapter):
            return self.stored_bytes(name) + 2 * wide  # the delta, and B @ A
        if self._map(name) is None:
            return 0
        return self.stored_bytes(name) + 3 * wide  # rows of source, base, result


def cut(tensor: Tensor, entries: int) -> Iterator[Tensor]:
    """Views of a tensor in flat pieces of entries."""
    flat = tensor.reshape(-1)
    return (flat[begin : begin + entries] for begin in range(0, flat.numel(), entries))
