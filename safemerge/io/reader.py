"""A checkpoint folder, opened without reading its weights: shapes at once, tensors on demand.

Accepted: `config.json` with `model.safetensors`, or with `model.safetensors.index.json` and its
shards; the same in `.bin` pickles if the caller allows them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch

from safemerge.errors import CheckpointError, near_names
from safemerge.io.digests import FileState, recall, remember
from safemerge.io.files import inside, read_json
from safemerge.io.header import TensorInfo, read_header, read_pieces
from safemerge.io.hub import local_folder
from safemerge.io.pickles import read_pickle
from safemerge.io.shards import one_copy, weight_files
from safemerge.io.tied_weights import find_tied
from safemerge.io.wrappers import unwrapped
from safemerge.names import is_constant

# Keys of config.json that change with the software or the place, not with the model.
_INCIDENTAL = frozenset(
    {"_name_or_path", "_commit_hash", "transformers_version", "dtype", "torch_dtype", "use_cache"}
)
_PACKED = ("qweight", "qzeros", "weight")
_WHOLE = frozenset({torch.bool, torch.int16, torch.int32, torch.int64})


class Hashed(Protocol):
    """What has content."""

    def content_hash(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An open checkpoint. Holds no weights and no open files."""

    folder: Path  # where it lies
    source: str  # what the user called it, a path or a Hub id; for messages and the card
    config: Mapping[str, Any]  # the content of config.json
    tensors: Mapping[str, TensorInfo]  # every stored tensor by name, in sorted order
    tied: frozenset[str]  # aliases of the embedding, stored or not: never merged or written
    _pickled: Mapping[str, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)
    _digests: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    _unhashed: list[FileState] = field(default_factory=list, repr=False, compare=False)
    _held: dict[str, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)
    _made: Mapping[str, Callable[[], torch.Tensor]] = field(
        default_factory=dict, repr=False, compare=False
    )
    _origin: Checkpoint | None = field(default=None, repr=False, compare=False)
    _parts: tuple[Hashed, ...] = field(default=(), repr=False, compare=False)

    def view(
        self,
        tensors: Mapping[str, TensorInfo],
        made: Mapping[str, Callable[[], torch.Tensor]],
        parts: tuple[Hashed, ...] = (),
        **config: Any,
    ) -> Checkpoint:
        """The same model with other tensors; its content hash stays that of what it is made of.

        Args:
            tensors: all that the view has.
            made: those of them that are computed when they are loaded; the rest are this model's.
            parts: what it is made of, where that is more than this model.
            config: keys of config.json that change.
        """
        infos = {k: replace(v, offset=None) if k in made else v for k, v in tensors.items()}
        ordered = MappingProxyType(dict(sorted(infos.items())))
        changed = {**self.config, **config}
        return replace(
            self,
            config=changed,
            tensors=ordered,
            _digests={},
            _held={},
            _made=made,
            _origin=self,
            _parts=parts or (self,),
        )

    def hold(self, name: str, tensor: torch.Tensor) -> None:
        """From now on a tensor, with its values, is not read but given: the same to everyone."""
        self._held[name] = tensor

    def holds(self, name: str) -> bool:
        """Whether `hold` was given it."""
        return name in self._held

    def release(self, name: str) -> None:
        """Read a tensor again."""
        self._held.pop(name, None)

    def load(self, name: str) -> torch.Tensor:
        """One tensor as stored, in memory of its own unless it is held.

        Its digest is taken on the way, once: hashing a model that is merged anyway needs no second
        reading. Threads may load different tensors at once.

        Raises:
            CheckpointError: there is no such tensor, or its file changed since it was opened.
        """
        if name in self._held:
            return self._held[name]
        info = self._info(name)
        if name in self._made:
            return self._made[name]()
        if self._origin is not None:  # which keeps the digests
            return self._origin.load(name)
        whole = list(self.pieces(name, max(math.prod(info.shape), 1)))
        # Without entries there are no pieces.
        return whole[0].reshape(info.shape) if whole else torch.empty(info.shape, dtype=info.dtype)

    def pieces(self, name: str, entries: int) -> Iterator[torch.Tensor]:
        """The same tensor as flat pieces of entries, in order; of a held one they are views."""
        made = name in self._made
        if made or name in self._held:
            flat = self.load(name).reshape(-1)
            yield from (flat[at : at + entries] for at in range(0, flat.numel(), entries))
            return
        info = self._info(name)
        if self._origin is not None:
            yield from self._origin.pieces(name, entries)
            return
        pieces: Iterator[torch.Tensor]
        if info.offset is None:
            pickled = self._pickled[name].reshape(-1)
            starts = range(0, pickled.numel(), entries)
            pieces = (pickled[begin : begin + entries].clone() for begin in starts)
        else:
            pieces = read_pieces(info, entries)
        digest = None if name in self._digests else hashlib.sha256()
        for piece in pieces:
            if digest is not None:
                digest.update(_bytes(piece))
            yield piece
        if digest is not None:
            self._digests[name] = digest.hexdigest()

    def _info(self, name: str) -> TensorInfo:
        info = self.tensors.get(name)
        if info is None:
            raise CheckpointError(
                f"{self.folder} has no tensor {name!r}; {near_names(name, self.tensors)}"
            )
        return info

    def content_hash(self) -> str:
        """64 hex digits that name this model's content; reads tensors that were never loaded.

        Covers name, dtype, shape and bytes of every tensor but copies of tied ones, and the keys of
        config.json that describe the architecture. That of a view is that of what it is made of.
        """
        if self._parts:
            first, *others = (part.content_hash() for part in self._parts)
            return (
                hashlib.sha256("".join([first, *others]).encode()).hexdigest() if others else first
            )
        config = {key: self.config[key] for key in self.config if key not in _INCIDENTAL}
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
        for name, info in self.tensors.items():
            if name in self.tied:
                continue
            if name not in self._digests:
                self.load(name)
            entry = [name, str(info.dtype), info.shape, self._digests[name]]
            digest.update(json.dumps(entry).encode())
        while self._unhashed:
            state = self._unhashed.pop()
            names = [n for n in self._digests if self.tensors[n].file == state.file]
            remember(state, {name: self._digests[name] for name in names})
        return digest.hexdigest()


def _bytes(tensor: torch.Tensor) -> memoryview:
    data: memoryview = tensor.reshape(-1).view(torch.uint8).numpy().data
    return data


def open_checkpoint(path_or_hub_id: str | Path, *, allow_pickle: bool = False) -> Checkpoint:
    """Open a checkpoint and check its files; reads headers only.

    The one exception is a head stored beside the embedding it may be tied to: both are compared.

    Args:
        path_or_hub_id: a folder, or `org/name[@revision]` on the Hub.
        allow_pickle: accept `.bin` files; off by default because a pickle can hold code.

    Raises:
        CheckpointError: something is missing, damaged, quantised, or points out of the folder.
    """
    folder = local_folder(path_or_hub_id, allow_pickle=allow_pickle)
    return open_folder(folder, str(path_or_hub_id), allow_pickle=allow_pickle)


def open_folder(folder: Path, source: str, *, allow_pickle: bool = False) -> Checkpoint:
    """`open_checkpoint` of a folder that is here, which the user called `source`."""
    files, index = weight_files(folder)
    if not (folder / "config.json").exists():
        raise CheckpointError(
            f"{folder} has weights and no config.json; copy the model's config.json into it"
        )
    config = read_json(inside(folder, "config.json"))
    held: dict[Path, dict[str, TensorInfo]] = {}
    unpickled: dict[Path, dict[str, torch.Tensor]] = {}
    states = [FileState.of(file) for file in files]  # before anything of them is read
    for file in files:
        held[file], unpickled[file] = read_weights(file, allow_pickle=allow_pickle)
    stored = one_copy(folder, held, index)
    if not stored:
        raise CheckpointError(f"{folder} holds no tensors; download or save the checkpoint again")
    names = unwrapped(stored, str(folder))
    tensors = {names[key]: replace(info, name=names[key]) for key, info in stored.items()}
    pickled = {
        names[key]: unpickled[info.file][key]
        for key, info in stored.items()
        if key in unpickled[info.file]
    }
    digests: dict[str, str] = {}
    unhashed: list[FileState] = []
    for state in states:
        own = {name for name, info in tensors.items() if info.file == state.file}
        known = recall(state)
        digests.update({name: known[name] for name in own & known.keys()})
        if not own <= known.keys():
            unhashed.append(state)
    _refuse_quantised(folder, config, tensors)
    ordered = MappingProxyType(dict(sorted(tensors.items())))
    checkpoint = Checkpoint(folder, source, config, ordered, frozenset(), pickled, digests)
    tied = find_tied(folder, config, ordered, checkpoint.load)
    return replace(checkpoint, tied=tied, _unhashed=unhashed)


def wrapped_names(folder: Path) -> dict[str, str]:
    """`{stored name: name in the model}` of the tensors that wrappers of training code renamed."""
    files, _ = weight_files(folder)
    stored = dict.fromkeys(name for file in files for name in read_header(file))
    return {name: own for name, own in unwrapped(stored, str(folder)).items() if name != own}


def read_weights(
    file: Path, *, allow_pickle: bool
) -> tuple[dict[str, TensorInfo], dict[str, torch.Tensor]]:
    """The tensors of one file, and those of them that a pickle holds."""
    if file.suffix != ".bin":
        return read_header(file), {}
    if not allow_pickle:
        raise CheckpointError(
            f"{file.parent} has its weights in .bin pickles, which can run code when loaded; "
            "convert it with save_pretrained(..., safe_serialization=True), or pass "
            "--allow-pickle if you trust where it comes from"
        )
    unpickled = read_pickle(file)
    infos = {k: TensorInfo(k, tuple(v.shape), v.dtype, file, None) for k, v in unpickled.items()}
    return infos, unpickled


def _refuse_quantised(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]
) -> None:
    """Quantised weights cannot be added; masks and buffers such as position ids may pass."""
    inner = config.get("text_config")
    for section in (config, inner if isinstance(inner, dict) else {}):
        for key in ("quantization_config", "compression_config"):
            if section.get(key):
                raise CheckpointError(
                    f"{folder} is quantised ({key} in config.json); "
                    "use the unquantised checkpoint, or dequantise it and save it first"
                )
    for name, info in tensors.items():
        if info.is_float or is_constant(name):
            continue
        # Wide integers are counters or positions, unless they hold packed weights.
        packed = name.rpartition(".")[2].startswith(_PACKED)
        if packed or info.dtype not in _WHOLE:
            raise CheckpointError(
                f"tensor {name!r} in {info.file} has type {str(info.dtype)[6:]}, which cannot be "
                "merged; use the unquantised checkpoint"
            )
