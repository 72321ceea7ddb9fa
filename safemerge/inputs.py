"""The checkpoints that a recipe names, opened and checked against each other before any work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from safemerge.devices import Memory
from safemerge.errors import CheckpointError, RecipeError, near_names
from safemerge.io import (
    Adapter,
    Checkpoint,
    MergedTokenizer,
    Parts,
    TokenChoice,
    VocabularyPlan,
    check_compatible,
    check_tokenizers,
    finite_pieces,
    fuse_experts,
    holds_model,
    load_finite,
    local_folder,
    map_tensor,
    merge_vocabularies,
    open_checkpoint,
    open_importance,
    open_source,
    stacked,
    token_map,
    with_adapter,
)
from safemerge.low_rank import LowRank
from safemerge.names import Layout, Role, groups, is_constant, layout_of, role_of
from safemerge.recipe import ModelRef, Recipe, TokenRow, Vocabulary
from safemerge.source import Source, cut

_PIECE = 2**18  # entries; 1 MiB of float32


@dataclass(frozen=True, slots=True)
class Inputs:
    """Base and sources of a recipe."""

    base: Checkpoint
    base_ref: ModelRef
    sources: tuple[Source, ...]  # in the recipe's order
    tokenizer: MergedTokenizer | None = None  # None keeps the base's
    fused: Parts | None = None  # of fused experts; None where matrices are merged by themselves

    @property
    def refs(self) -> tuple[ModelRef, ...]:
        """The recipe's references, base first."""
        return (self.base_ref, *(source.ref for source in self.sources))

    @property
    def folders(self) -> list[Path]:
        """Where they lie, base first."""
        return [self.base.folder, *(source.stored.folder for source in self.sources)]

    @property
    def merged_names(self) -> tuple[str, ...]:
        return merged_names(self.base)

    def groups(self, profile: str) -> dict[str, str]:
        """Place group of every merged tensor: `{name: group}`."""
        return groups(self.merged_names, profile)

    def checked_groups(self, recipe: Recipe) -> dict[str, str]:
        """`groups`, after a check that the recipe has weights for them all and names no other."""
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
        return role_of(name, self.base.tensors[name].shape)

    def layout(self, name: str) -> Layout:
        """How a tensor stores its matrices; fused experts count as one."""
        if self.fused is not None:
            return Layout()
        shape = self.base.tensors[name].shape
        return layout_of(name, shape, str(self.base.config.get("model_type")))

    def load(self, name: str, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """A tensor of the base in its own dtype, and its deltas (n_sources, *base.shape) in
        float32.

        Sources are read one after another and in pieces, with little memory beside the deltas.

        Raises:
            CheckpointError: where a value is NaN or infinite, naming tensor and checkpoint.
        """
        stored = load_finite(self.base, name)
        base = stored.to(device)
        deltas = torch.empty((len(self.sources), *base.shape), device=device)
        entries = _PIECE if base.device.type == "cpu" else max(base.numel(), 1)
        for source, delta in zip(self.sources, deltas.flatten(1), strict=True):
            begin = 0
            for tuned in source.pieces(name, entries, stored, device):
                piece = slice(begin, begin + len(tuned))
                source.write_delta(delta[piece], tuned, base.reshape(-1)[piece].float())
                begin = piece.stop
        return base, deltas

    def low_rank(self, name: str, device: torch.device | str = "cpu") -> list[LowRank] | None:
        """The deltas of a tensor by their factors; None unless all sources are adapters with them.

        A matrix that an adapter leaves alone has factors of rank 0.
        """
        factors = [source.low_rank(name, device) for source in self.sources]
        given = [pair for pair in factors if pair is not None]
        return given if len(given) == len(factors) else None

    def changes(self, name: str) -> bool:
        """False for a tensor that certainly no source changes."""
        return any(source.changes(name) for source in self.sources)

    def all_held_as_base(self, name: str) -> bool:
        """Whether `hold` found that the tensors of all sources are the base's."""
        if not self.base.holds(name):
            return False
        base = self.base.load(name)
        others = [source.stored for source in self.sources if not source.is_base]
        return all(
            isinstance(other, Checkpoint) and other.holds(name) and other.load(name) is base
            for other in others
        )

    def hold(
        self,
        name: str,
        memory: Memory = "host",
        device: torch.device | str = "cpu",
        *,
        base_alone: bool = False,
    ) -> None:
        """Read one tensor no more, in its own dtype: of base and sources, or the base alone.

        A source whose tensor is the base's shares it.
        """

        def kept(checkpoint: Checkpoint, stored: str) -> None:
            if checkpoint.holds(stored):
                return
            info = checkpoint.tensors[stored]
            if memory == "disk" and info.offset is not None:
                for _ in finite_pieces(checkpoint, stored, _PIECE):
                    pass  # checked and hashed, with no more than a piece in memory
                checkpoint.hold(stored, map_tensor(info))
                return
            tensor = load_finite(checkpoint, stored)
            if checkpoint is not self.base and self.base.holds(stored):
                same = self.base.load(stored)
                if tensor.dtype == same.dtype and torch.equal(tensor, same.cpu()):
                    checkpoint.hold(stored, same)
                    return
            checkpoint.hold(stored, tensor.to(device) if memory == "device" else tensor)

        kept(self.base, name)
        for source in () if base_alone else self.sources:
            if isinstance(source.stored, Adapter):
                for stored in source.stored.stored_names(name):
                    kept(source.stored.stored, stored)
            else:
                kept(source.stored, name)
            if source.importance is not None:
                kept(source.importance, name)

    def release(self, name: str) -> None:
        """Read again what `hold` held of a tensor."""
        self.base.release(name)
        for source in self.sources:
            if isinstance(source.stored, Adapter):
                for stored in source.stored.stored_names(name):
                    source.stored.stored.release(stored)
            else:
                source.stored.release(name)
            if source.importance is not None:
                source.importance.release(name)

    def only(self, refs: Sequence[ModelRef]) -> Inputs | None:
        """The same, opened, with some of the sources alone; None where one is not among them."""
        opened = {source.ref: source for source in self.sources}
        if not all(ref in opened for ref in refs):
            return None
        return replace(self, sources=tuple(opened[ref] for ref in refs))

    def pieces(
        self, name: str, entries: int, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """The same in flat pieces of entries: where each lies, base (n,), deltas (n_sources, n).

        Neither the base nor its deltas are ever held as a whole, unless a source `needs_base`.
        """
        whole = load_finite(self.base, name) if self._needs_whole_base(name) else None
        of_base = finite_pieces(self.base, name, entries) if whole is None else cut(whole, entries)
        of_others = [s.pieces(name, entries, whole, device) for s in self.sources if not s.is_base]
        begin = 0
        for stored, *others in zip(of_base, *of_others, strict=True):
            base = stored.to(device)
            start, remaining = base.float(), iter(others)
            deltas = torch.empty((len(self.sources), len(base)), device=device)
            for source, delta in zip(self.sources, deltas, strict=True):
                source.write_delta(delta, stored if source.is_base else next(remaining), start)
            yield slice(begin, begin + len(base)), base, deltas
            begin += len(base)

    def _needs_whole_base(self, name: str) -> bool:
        return any(source.needs_base(name) for source in self.sources)

    def positions(self, name: str, device: torch.device | str = "cpu") -> Tensor:
        """Of every source, which must have an importance file, (n_sources, *base.shape), int16."""
        files = [source.importance for source in self.sources]
        loaded = [file.load(name).to(device) for file in files if file is not None]
        return torch.stack(loaded)

    def stored_bytes(self, name: str) -> int:
        """Size of one tensor in the base and all sources together."""
        others = sum(source.stored_bytes(name) for source in self.sources if not source.is_base)
        return self.base.tensors[name].nbytes + others

    def held_bytes(self, name: str) -> tuple[int, int]:
        """Most memory that `pieces` holds beside its pieces, and `load` beside its deltas."""
        base = self.base.tensors[name].nbytes
        held = [source.held_bytes(name) for source in self.sources]
        whole = base if self._needs_whole_base(name) else 0
        return whole + sum(held), base + max(held)

    def source_tensor(self, index: int, name: str) -> Tensor:
        """One tensor of a source, by index, as a whole model in the base's vocabulary."""
        return self.sources[index].model_tensor(name, load_finite(self.base, name))

    def contents(self) -> dict[str, str]:
        """`{model name: content hash}`; of importance files under `NAME importance`."""
        hashes = {self.base_ref.name: self.base.content_hash()}
        for source in self.sources:
            hashes[source.ref.name] = source.stored.content_hash()
            if source.importance is not None:
                hashes[f"{source.ref.name} importance"] = source.importance.content_hash()
        return hashes


def merged_names(base: Checkpoint) -> tuple[str, ...]:
    """Floating tensors that are merged: not aliases of tied ones, and not constants."""
    return tuple(
        name
        for name, info in base.tensors.items()
        if info.is_float and name not in base.tied and not is_constant(name)
    )


def open_inputs(recipe: Recipe, *, allow_pickle: bool = False) -> Inputs:
    """Open base and sources and refuse what does not fit together.

    `allow_pickle` also reads `.bin` files, through torch's weights-only unpickler.

    Raises:
        CheckpointError: missing, damaged, of other shapes, vocabulary or tokenizer, or of another
            content than the recipe gives; an importance file that is not the base's.
    """
    tokenizer = None
    if recipe.stack or isinstance(recipe.tokenizer, Vocabulary):
        base, sources, tokenizer = _rearranged(recipe, allow_pickle)
    else:
        base, sources = _as_they_are(recipe, allow_pickle)
    fused: Parts | None = None
    if recipe.experts == "fused":
        base, sources, fused = _with_fused_experts(base, sources)
    names = merged_names(base)
    for i, source in enumerate(sources):
        if source.ref.importance is not None:
            importance = open_importance(source.ref.importance, base, names)
            sources[i] = replace(source, importance=importance)
    inputs = Inputs(base, recipe.base, tuple(sources), tokenizer, fused)
    _check_contents(inputs)
    return inputs


def _as_they_are(recipe: Recipe, allow_pickle: bool) -> tuple[Checkpoint, list[Source]]:
    """Base and sources of the base's architecture and depth."""
    base = _open_model(recipe.base, allow_pickle)
    folders = [local_folder(ref.path, allow_pickle=allow_pickle) for ref in recipe.sources]
    maps = recipe.tokenizer == "base"
    tokens = [token_map(base.folder, folder) if maps else None for folder in folders]
    sources = []
    for ref, folder, map_ in zip(recipe.sources, folders, tokens, strict=True):
        # The base may be a source too, as where models are averaged: it is read once.
        stored: Checkpoint | Adapter = base
        if (folder, ref.adapter) == (base.folder, recipe.base.adapter):
            pass
        elif ref.adapter is not None or folder == base.folder:
            stored = _open_model(ref, allow_pickle)
            check_compatible(base, stored, any_vocabulary=map_ is not None)
        else:
            stored = open_source(
                folder, ref.path, base, any_vocabulary=map_ is not None, allow_pickle=allow_pickle
            )
        sources.append(Source(ref, stored, base, map_))
    if not maps:
        check_tokenizers(base.folder, folders)
    return base, sources


def _with_fused_experts(
    base: Checkpoint, sources: list[Source]
) -> tuple[Checkpoint, list[Source], Parts]:
    fused, parts = fuse_experts(base)
    if not parts:
        return base, sources, {}
    views = []
    for source in sources:
        stored = source.stored
        if isinstance(stored, Adapter):  # whose factors are those of single matrices
            stored = with_adapter(base, stored)
        own = fused if stored is base else fuse_experts(stored)[0]
        views.append(replace(source, stored=own, base=fused))
    return fused, views, parts


def _rearranged(
    recipe: Recipe, allow_pickle: bool
) -> tuple[Checkpoint, list[Source], MergedTokenizer | None]:
    """Base and sources in the recipe's vocabulary, with its stack of layers."""
    base, tokenizer = _open_model(recipe.base, allow_pickle), None
    models = [base]
    for ref in recipe.sources:
        folder = local_folder(ref.path, allow_pickle=allow_pickle)
        if (folder, ref.adapter) == (base.folder, recipe.base.adapter):
            models.append(base)
        elif ref.adapter is not None or holds_model(folder):
            models.append(_open_model(ref, allow_pickle))
        else:  # an adapter of the base
            merged = ref.model_copy(update={"path": recipe.base.path, "adapter": ref.path})
            models.append(_open_model(merged, allow_pickle))
    if not recipe.stack:
        for model in models[1:]:
            check_compatible(base, model, any_vocabulary=True)
    refs = (recipe.base, *recipe.sources)
    index = {ref.name: i for i, ref in enumerate(refs)}
    if isinstance(recipe.tokenizer, Vocabulary):
        models, tokenizer = merge_vocabularies(models, _vocabulary(recipe.tokenizer, index))
    else:
        check_tokenizers(base.folder, [model.folder for model in models[1:]])
    if recipe.stack:
        slices = [{index[name]: span for name, span in part.items()} for part in recipe.stack]
        models = stacked(models, slices)
    sources = [Source(*pair, models[0]) for pair in zip(recipe.sources, models[1:], strict=True)]
    return models[0], sources, tokenizer


def _vocabulary(wanted: Vocabulary, index: Mapping[str, int]) -> VocabularyPlan:
    def choice(row: TokenRow) -> TokenChoice:
        model = None if row.model is None else index[row.model]
        return TokenChoice(model, row.token, row.token_id, row.zero, row.force)

    source = {"union": None, "base": 0}.get(wanted.source)
    return VocabularyPlan(
        source=index[wanted.model] if wanted.model is not None else source,
        choices={token: choice(row) for token, row in wanted.tokens.items()},
        pad_to_multiple_of=wanted.pad_to_multiple_of,
        prefer_base=wanted.prefer_base,
    )


def _open_model(ref: ModelRef, allow_pickle: bool) -> Checkpoint:
    """A whole model, with its adapter merged into it where it has one."""
    model = open_checkpoint(ref.path, allow_pickle=allow_pickle)
    if ref.adapter is None:
        return model
    folder = local_folder(ref.adapter, allow_pickle=allow_pickle)
    adapter = open_source(folder, ref.adapter, model, allow_pickle=allow_pickle)
    if not isinstance(adapter, Adapter):
        raise CheckpointError(
            f"{ref.adapter}, the adapter of {ref.path}, is a whole model; give a LoRA adapter, or "
            "that model itself"
        )
    return with_adapter(model, adapter)


def _check_contents(inputs: Inputs) -> None:
    if not any(ref.content for ref in inputs.refs):
        return
    contents = inputs.contents()
    for ref in inputs.refs:
        if ref.content and contents[ref.name] != ref.content:
            raise CheckpointError(
                f"{ref.path}: the content of {ref.name!r} is not what the recipe was made with "
                f"(hash {contents[ref.name][:12]}, recipe {ref.content[:12]}); restore that "
                "checkpoint, or remove `content` from the recipe to merge the new one"
            )
