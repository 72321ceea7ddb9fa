"""PEFT LoRA folders as sources: deltas of the base, one tensor at a time, from A and B alone.

A low-rank delta is scaling * B @ A (Hu et al. 2021, 2106.09685; `lora_config.py`). A tensor that
was trained whole (modules_to_save) counts as itself minus the base's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from safemerge.errors import CheckpointError, near_names
from safemerge.io.adapter_ties import without_tied_heads
from safemerge.io.compat import (
    beyond_range,
    check_compatible,
    is_finite,
    load_finite,
    same_shape,
)
from safemerge.io.files import inside
from safemerge.io.lora_config import CONFIG_FILE, REMEDY, LoraConfig, read_lora_config
from safemerge.io.reader import Checkpoint, open_folder, read_weights
from safemerge.io.shards import holds_model
from safemerge.io.vocabulary import TokenMap
from safemerge.io.wrappers import PEFT, unwrapped
from safemerge.low_rank import LowRank
from safemerge.names import is_vocabulary, layout_of

_FILES = ("adapter_model.safetensors", "adapter_model.bin")
# A state dict that PEFT did not save itself has the adapter's name, "default" unless it was given.
_FACTOR = re.compile(
    r"(.+)\.(?:lora_([AB])(?:\.default)?\.weight|lora_embedding_([AB])(?:\.default)?)"
)


@dataclass(frozen=True, slots=True)
class FactorPair:
    """Low-rank factors of one delta."""

    a: str  # stored name of A, (r, in)
    b: str  # stored name of B, (out, r)
    scaling: float  # factor on B @ A
    transposed: bool  # the base's tensor is (in, out)


@dataclass(frozen=True, slots=True)
class Adapter:
    """An open LoRA adapter, fitted to its base. Holds no weights."""

    stored: Checkpoint  # its files; the config is the part that decides the deltas
    pairs: Mapping[str, FactorPair]  # low-rank deltas, by the base's tensor
    whole: Mapping[str, str]  # stored names of tensors that replace the base's, likewise

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.stored.folder

    def content_hash(self) -> str:
        """64 hex digits over its tensors and the part of its config that decides the deltas."""
        return self.stored.content_hash()

    def stored_bytes(self, name: str) -> int:
        """Size of what it stores for one tensor of its base."""
        return sum(self.stored.tensors[stored].nbytes for stored in self.stored_names(name))

    def stored_names(self, name: str) -> list[str]:
        """What it stores for one tensor of its base; nothing where it leaves it alone."""
        names = [self.whole[name]] if name in self.whole else []
        if name in self.pairs:
            names += [self.pairs[name].a, self.pairs[name].b]
        return names

    def has_factors(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether `low_rank` gives a delta: not of what was trained whole, or is no matrix."""
        return name not in self.whole and len(shape) == 2

    def low_rank(self, name: str, shape: tuple[int, ...], device: torch.device | str) -> LowRank:
        """The delta of one tensor, of the base's shape, by its factors; of rank 0 without any."""
        if name not in self.pairs:
            nothing = torch.empty(0, device=device)
            return LowRank(nothing.reshape(shape[0], 0), nothing.reshape(0, shape[1]))
        pair = self.pairs[name]
        a, b = self._load(pair.a, device), pair.scaling * self._load(pair.b, device)
        return LowRank(b, a).transposed() if pair.transposed else LowRank(b, a)

    def delta(self, name: str, base: Tensor, tokens: TokenMap | None = None) -> Tensor:
        """What the adapter adds to one tensor of its base, float32, of the base's shape and device.

        `base` has its values, any dtype; `tokens` map the adapter's vocabulary, where it is
        another.
        """
        delta = torch.zeros(base.shape, device=base.device)
        mapped = tokens if is_vocabulary(name) else None
        if name in self.whole:
            trained, before = self._load(self.whole[name], base.device), base.float()
            delta += (trained if mapped is None else mapped.to_base(trained, before)) - before
        if name in self.pairs:
            pair = self.pairs[name]
            product = self._load(pair.b, base.device) @ self._load(pair.a, base.device)
            change = pair.scaling * (product.T if pair.transposed else product)
            delta += change if mapped is None else mapped.to_base(change, torch.zeros_like(delta))
        return delta

    def applied(self, name: str, base: Tensor, tokens: TokenMap | None = None) -> Tensor:
        """One tensor of its base with its delta added, in the base's dtype, as PEFT merges it."""
        exact = base.float() + self.delta(name, base, tokens)
        cast = exact.to(base.dtype)
        if not is_finite(cast):
            raise beyond_range(f"the tensor {name!r} with {self.stored.source} added", cast, exact)
        return cast

    def _load(self, name: str, device: torch.device | str) -> Tensor:
        return load_finite(self.stored, name).to(device).float()


def with_adapter(base: Checkpoint, adapter: Adapter) -> Checkpoint:
    """The model that an adapter makes of its base; tensors are merged when they are loaded."""

    def merged(name: str) -> Callable[[], Tensor]:
        return lambda: adapter.applied(name, load_finite(base, name))

    made = {name: merged(name) for name in {**adapter.pairs, **adapter.whole}}
    return base.view(base.tensors, made, (base, adapter))


def open_source(
    folder: Path,
    source: str,
    base: Checkpoint,
    *,
    any_vocabulary: bool = False,
    allow_pickle: bool = False,
) -> Checkpoint | Adapter:
    """Open a whole model or a LoRA adapter and check that it fits the base; reads headers only.

    Args:
        folder: of a model or an adapter; one with both is a model.
        source: what the user called it.
        base: the model that it was trained from.
        any_vocabulary: embeddings and heads may have other rows, which will be mapped.
        allow_pickle: also read `.bin` files, through torch's weights-only unpickler.

    Raises:
        CheckpointError: damaged, quantised, of other shapes, an adapter that is more than plain
            LoRA, or one that was trained on another base.
    """
    if holds_model(folder) or not (folder / CONFIG_FILE).exists():
        checkpoint = open_folder(folder, source, allow_pickle=allow_pickle)
        check_compatible(base, checkpoint, any_vocabulary=any_vocabulary)
        return checkpoint
    config = read_lora_config(folder)
    config.check_base(base)
    file = next((name for name in _FILES if (folder / name).exists()), None)
    if file is None:
        raise CheckpointError(
            f"{folder} has {CONFIG_FILE} and no {_FILES[0]}; download or copy it again"
        )
    tensors, pickled = read_weights(inside(folder, file), allow_pickle=allow_pickle)
    if not tensors:
        raise CheckpointError(f"{folder} holds no tensors; download or save it again")
    names = unwrapped(tensors, str(folder), adapter=True)
    ordered = {
        name: replace(tensors[key], name=name)
        for key, name in sorted(names.items(), key=lambda pair: pair[1])
    }
    pickled = {names[key]: tensor for key, tensor in pickled.items()}
    stored = Checkpoint(folder, source, config.decisive, ordered, frozenset(), pickled)
    return _Fit(stored, config, base, any_vocabulary).adapter()


@dataclass(frozen=True, slots=True)
class _Fit:
    """An adapter's tensors, to be assigned to those of a base."""

    stored: Checkpoint
    config: LoraConfig
    base: Checkpoint
    any_vocabulary: bool

    def adapter(self) -> Adapter:
        factors: dict[str, dict[str, str]] = {}
        whole: dict[str, str] = {}
        for name, info in self.stored.tensors.items():
            if not info.is_float:
                raise CheckpointError(
                    f"tensor {name!r} in {info.file} has type {str(info.dtype)[6:]}, which cannot "
                    "be merged; use the unquantised adapter"
                )
            factor = _FACTOR.fullmatch(name)
            if factor is not None:
                module = factor[1].removeprefix(PEFT)
                factors.setdefault(module, {})[factor[2] or factor[3]] = name
            elif not name.startswith(PEFT) or "lora_" in name:
                raise CheckpointError(
                    f"tensor {name!r} of {self.stored.folder} is no part of a plain LoRA adapter; "
                    f"{REMEDY}"
                )
            else:
                # A layer with factors of its own is wrapped: `embed_tokens.base_layer.weight`.
                whole[name.removeprefix(PEFT).replace(".base_layer.", ".")] = name
        own, alone = without_tied_heads(self.stored, self.config, self.base, factors, whole)
        return Adapter(
            self.stored,
            pairs=dict(self._pair(module, names) for module, names in own.items()),
            whole=dict(self._whole(plain, name) for plain, name in alone.items()),
        )

    def _whole(self, plain: str, name: str) -> tuple[str, str]:
        target = self._target(plain)
        shapes = self.base.tensors[target].shape, self.stored.tensors[name].shape
        if not same_shape(target, *shapes, any_vocabulary=self.any_vocabulary):
            raise self._misfit(f"{target} is {[*shapes[0]]} there, {[*shapes[1]]} here")
        return target, name

    def _pair(self, module: str, names: Mapping[str, str]) -> tuple[str, FactorPair]:
        """The factors of one delta, checked against the base's shape and the config's rank."""
        folder, plain = self.stored.folder, module
        if len(names) < 2:
            (only,) = names.values()
            raise CheckpointError(f"{folder} has {only!r} alone of two factors; download it again")
        target = self._target(f"{plain}.weight")
        a, b = (self.stored.tensors[names[key]].shape for key in "AB")
        if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
            raise CheckpointError(
                f"the factors of {target} in {folder} are {[*a]} and {[*b]}, not (r, in) and "
                "(out, r); download or save it again"
            )
        shape = self.base.tensors[target].shape
        # An embedding is a matrix (out, in) = (width, vocabulary) to LoRA.
        transposed = names["A"].endswith("lora_embedding_A") or (
            layout_of(target, shape, str(self.base.config.get("model_type"))).transposed
        )
        product = (a[1], b[0]) if transposed else (b[0], a[1])
        if not same_shape(target, shape, product, any_vocabulary=self.any_vocabulary):
            raise self._misfit(f"{target} is {[*shape]} there, its delta {[*product]} here")
        return target, FactorPair(
            names["A"], names["B"], self.config.scaling(plain, a[0]), transposed
        )

    def _target(self, plain: str) -> str:
        """The base's tensor of a name in the model that was trained."""
        # Checkpoints of a bare decoder, such as the first GPT-2's, leave `transformer.` out.
        known = self.base.tensors
        target = plain if plain in known else plain.partition(".")[2]
        if target not in known:
            raise self._misfit(f"it has no {plain} ({near_names(plain, known)})")
        return target

    def _misfit(self, difference: str) -> CheckpointError:
        return CheckpointError(
            f"{self.stored.folder} does not fit the base {self.base.folder}: {difference}. Use an "
            "adapter that was trained on this base, or tokenizer = 'base' if only its tokens are "
            "other"
        )
