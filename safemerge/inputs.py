"""The checkpoints that a recipe names, opened and checked against each other before any work."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor

from safemerge.errors import CheckpointError, RecipeError, near_names
from safemerge.io import (
    Adapter,
    Checkpoint,
    TokenMap,
    check_finite,
    check_tokenizers,
    is_finite,
    local_folder,
    open_checkpoint,
    open_importance,
    open_source,
    token_map,
)
from safemerge.names import Layout, Role, groups, is_constant, is_vocabulary, layout_of, role_of
from safemerge.recipe import ModelRef, Recipe

_PIECE = 2**18  # entries; 1 MiB of float32


@dataclass(frozen=True, slots=True)
class Inputs:
    """Base and sources of a recipe.

    Args:
        base: the base checkpoint.
        sources: the sources, in the recipe's order.
        tokens: how the vocabulary of each source maps to the base's; None where it is the same.
        refs: the recipe's references to base and sources, base first.
        importance: the importance file of each source; None where the recipe names none.
    """

    base: Checkpoint
    sources: tuple[Checkpoint | Adapter, ...]
    tokens: tuple[TokenMap | None, ...]
    refs: tuple[ModelRef, ...]
    importance: tuple[Checkpoint | None, ...] = ()

    @property
    def merged_names(self) -> tuple[str, ...]:
        """Floating tensors that are merged: not aliases of tied ones, and not constants."""
        return tuple(
            name
            for name, info in self.base.tensors.items()
            if info.is_float and name not in self.base.tied and not is_constant(name)
        )

    def groups(self, profile: str) -> dict[str, str]:
        """Place group of every merged tensor: `{name: group}`."""
        return groups(self.merged_names, profile)

    def checked_groups(self, recipe: Recipe) -> dict[str, str]:
        """`groups`, after a check that the recipe serves them all and names no other.

        Raises:
            RecipeError: a group without weights, or a name that is no place group.
        """
        groups = self.groups(recipe.places)
        known = {*groups.values(), "default"}
        for named in (*recipe.weights, *recipe.rank_ratio, *chain(*recipe.per_source.values())):
            if named not in known:
                raise RecipeError(
                    f"the recipe names the place group {named!r}, which profile "
                    f"{recipe.places!r} does not have here; {near_names(named, known)}"
                )
        for group in known - {"default"}:
            recipe.weights_at(group)
        return groups

    def role(self, name: str) -> Role:
        """How spectral methods treat a tensor."""
        return role_of(name, tuple(self.base.tensors[name].shape))

    def layout(self, name: str) -> Layout:
        """How a tensor stores its matrices."""
        shape = tuple(self.base.tensors[name].shape)
        return layout_of(name, shape, str(self.base.config.get("model_type")))

    def load(self, name: str, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """One tensor of the base in its own dtype, and its deltas, both on `device`.

        Sources are read one after another and in pieces, so that the deltas take little more memory
        than they have themselves.

        Returns:
            The base, and the deltas (n_sources, *base.shape) in float32.

        Raises:
            CheckpointError: where a value is NaN or infinite, naming tensor and checkpoint.
        """
        stored = self._read_base(name)
        base = stored.to(device)
        deltas = torch.empty((len(self.sources), *base.shape), device=device)
        entries = _PIECE if base.device.type == "cpu" else max(base.numel(), 1)
        for index, delta in enumerate(deltas.flatten(1)):
            begin = 0
            for tuned in self._source_pieces(index, name, entries, stored):
                piece = slice(begin, begin + len(tuned))
                self._write_delta(delta[piece], index, tuned, base.reshape(-1)[piece].float())
                begin = piece.stop
        return base, deltas

    def pieces(
        self, name: str, entries: int, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """The same in flat pieces: where each lies, base (n,), deltas (n_sources, n).

        Neither the base nor its deltas are ever held as a whole, unless a source is an adapter or
        has another vocabulary.

        Args:
            name: a merged tensor.
            entries: n of all pieces but the last.
            device: where the pieces are wanted.

        Raises:
            CheckpointError: as for `load`.
        """
        whole = self._read_base(name) if self._needs_whole_base(name) else None
        of_base = (
            _finite_pieces(self.base, name, entries) if whole is None else _cut(whole, entries)
        )
        others = [
            self._source_pieces(index, name, entries, whole)
            for index, source in enumerate(self.sources)
            if source is not self.base
        ]
        begin = 0
        for stored, *tuned in zip(of_base, *others, strict=True):
            base = stored.to(device)
            start, own = base.float(), iter(tuned)
            deltas = torch.empty((len(self.sources), len(base)), device=device)
            for index, source in enumerate(self.sources):
                end = stored if source is self.base else next(own)
                self._write_delta(deltas[index], index, end, start)
            yield slice(begin, begin + len(base)), base, deltas
            begin += len(base)

    def _write_delta(self, delta: Tensor, index: int, tuned: Tensor, start: Tensor) -> None:
        """Put one source's delta of a piece into float32 memory; `start` is the base there."""
        delta.copy_(tuned.to(delta.device))  # moved in the stored dtype: less
        if not isinstance(self.sources[index], Adapter):
            delta.sub_(start)

    def _needs_whole_base(self, name: str) -> bool:
        """Whether a source cannot be read in pieces of its own."""
        mapped = is_vocabulary(name) and any(tokens is not None for tokens in self.tokens)
        return mapped or any(isinstance(source, Adapter) for source in self.sources)

    def _source_pieces(
        self, index: int, name: str, entries: int, base: Tensor | None
    ) -> Iterator[Tensor]:
        """One tensor of a source in flat pieces; of an adapter, its delta."""
        source = self.sources[index]
        mapped = self.tokens[index] is not None and is_vocabulary(name)
        if source is self.base or isinstance(source, Adapter) or mapped:
            assert base is not None  # by `_needs_whole_base`
            return _cut(self._read_source(index, name, base), entries)
        return _finite_pieces(source, name, entries)

    def _read_base(self, name: str) -> Tensor:
        base = self.base.load(name)
        check_finite(name, base, self.base.folder)
        return base

    def _read_source(self, index: int, name: str, base: Tensor) -> Tensor:
        """One tensor of a source; of an adapter, its delta."""
        source, tokens = self.sources[index], self.tokens[index]
        if source is self.base:
            return base
        if isinstance(source, Adapter):
            return source.delta(name, base, tokens)
        tensor = source.load(name)
        check_finite(name, tensor, source.folder)
        if tokens is not None and is_vocabulary(name):
            tensor = tokens.to_base(tensor.float(), base.float())
        return tensor

    def positions(self, name: str, device: torch.device | str = "cpu") -> Tensor:
        """Of every source, the position of one tensor's entries in the order of importance.

        Returns:
            (n_sources, *base.shape), int16. Every source must have an importance file.
        """
        found = [file.load(name) for file in self.importance if file is not None]
        return torch.stack(found).to(device)

    def stored_bytes(self, name: str) -> int:
        """Size of one tensor in the base and all sources together."""
        return sum(
            source.stored_bytes(name)
            if isinstance(source, Adapter)
            else source.tensors[name].nbytes
            for source in (self.base, *(s for s in self.sources if s is not self.base))
        )

    def held_bytes(self, name: str) -> tuple[int, int]:
        """Most memory that `pieces` holds beside its pieces, and `load` beside its deltas."""
        base = self.base.tensors[name]
        wide = 4 * math.prod(base.shape)
        held = [0]
        for source, tokens in zip(self.sources, self.tokens, strict=True):
            if isinstance(source, Adapter):
                held.append(source.stored_bytes(name) + 2 * wide)  # the delta, and B @ A
            elif tokens is not None and is_vocabulary(name):
                held.append(source.tensors[name].nbytes + 3 * wide)  # rows of source, base, result
        whole = base.nbytes if self._needs_whole_base(name) else 0
        return whole + sum(held), base.nbytes + max(held)

    def source_tensor(self, index: int, name: str) -> Tensor:
        """One tensor of a source as a whole model in the base's vocabulary.

        Args:
            index: of the source.
            name: a merged tensor.

        Returns:
            As stored, or base + delta in the base's dtype.
        """
        base = self._read_base(name)
        tuned = self._read_source(index, name, base)
        if isinstance(self.sources[index], Adapter):
            return (base.float() + tuned).to(base.dtype)
        return tuned

    def contents(self) -> dict[str, str]:
        """`{model name: content hash}` of base and sources; reads every file once.

        Importance files are there as "NAME importance".
        """
        checkpoints = (self.base, *self.sources)
        found = {
            ref.name: checkpoint.content_hash()
            for ref, checkpoint in zip(self.refs, checkpoints, strict=True)
        }
        for ref, file in zip(self.refs[1:], self.importance, strict=True):
            if file is not None:
                found[f"{ref.name} importance"] = file.content_hash()
        return found


def _finite_pieces(checkpoint: Checkpoint, name: str, entries: int) -> Iterator[Tensor]:
    """A tensor of a checkpoint in flat pieces, none of which holds NaN or infinity."""
    for piece in checkpoint.pieces(name, entries):
        if not is_finite(piece):
            check_finite(name, checkpoint.load(name), checkpoint.folder)  # counts them all
        yield piece


def _cut(tensor: Tensor, entries: int) -> Iterator[Tensor]:
    """Views of a tensor in flat pieces."""
    flat = tensor.reshape(-1)
    return (flat[begin : begin + entries] for begin in range(0, flat.numel(), entries))


def open_inputs(recipe: Recipe, *, allow_pickle: bool = False) -> Inputs:
    """Open base and sources and refuse what does not fit together.

    Args:
        recipe: names the checkpoints; a `content` given there must match.
        allow_pickle: also read `.bin` files, through torch's weights-only unpickler.

    Raises:
        CheckpointError: missing, damaged, of other shapes, vocabulary or tokenizer, or changed; an
            importance file that is not the base's.
    """
    base = open_checkpoint(recipe.base.path, allow_pickle=allow_pickle)
    folders = [local_folder(ref.path, allow_pickle=allow_pickle) for ref in recipe.sources]
    if recipe.tokenizer == "base":
        tokens = tuple(token_map(base.folder, folder) for folder in folders)
    else:
        tokens = (None,) * len(folders)
    sources = tuple(
        base  # a source too, as where models are averaged: it is read once
        if folder == base.folder
        else open_source(
            folder, ref.path, base, any_vocabulary=map_ is not None, allow_pickle=allow_pickle
        )
        for ref, folder, map_ in zip(recipe.sources, folders, tokens, strict=True)
    )
    if recipe.tokenizer is None:
        check_tokenizers(base.folder, folders)
    inputs = Inputs(base, sources, tokens, (recipe.base, *recipe.sources))
    files = tuple(
        None if path is None else open_importance(path, base, inputs.merged_names)
        for path in (ref.importance for ref in recipe.sources)
    )
    inputs = replace(inputs, importance=files)
    _check_contents(inputs)
    return inputs


def _check_contents(inputs: Inputs) -> None:
    wanted: Mapping[str, str] = {ref.name: ref.content for ref in inputs.refs if ref.content}
    if not wanted:
        return
    found = inputs.contents()
    for ref in inputs.refs:
        if ref.content and found[ref.name] != ref.content:
            raise CheckpointError(
                f"{ref.path}: the content of {ref.name!r} is not what the recipe was made with "
                f"(hash {found[ref.name][:12]}, recipe {ref.content[:12]}); restore that "
                "checkpoint, or remove `content` from the recipe to merge the new one"
            )
