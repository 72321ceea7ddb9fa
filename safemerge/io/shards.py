"""Which files of a folder hold its weights, and which copy of a tensor that is there twice counts.

An overlay (an extra shard with newer tensors, to which the index points while older copies stay in
the other shards) is read by its index. transformers and vLLM read all files that an index names, in
the order of their names, and keep the last copy. Where that is another one, loaders disagree about
what the model is, so it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from safemerge.errors import CheckpointError
from safemerge.io.files import inside, read_json
from safemerge.io.header import TensorInfo, read_pieces

# transformers looks for the names in this order, so the same file wins.
_WEIGHTS = (("model", ".safetensors"), ("pytorch_model", ".bin"))
_PIECE = 2**20  # entries compared at a time


def holds_model(folder: Path) -> bool:
    """Whether a folder has the weights of a whole model, by the names of its files."""
    return any(
        (folder / f"{stem}{suffix}{index}").exists()
        for stem, suffix in _WEIGHTS
        for index in ("", ".index.json")
    )


def weight_files(folder: Path) -> tuple[list[Path], dict[str, Path] | None]:
    """The files that hold weights, and the index `{tensor: file}` if there is one."""
    for stem, suffix in _WEIGHTS:
        single, index_file = folder / f"{stem}{suffix}", folder / f"{stem}{suffix}.index.json"
        if single.exists():
            _refuse_mixed(folder, single.name, index_file)
            return [inside(folder, single.name)], None
        if index_file.exists():
            index = _read_index(folder, inside(folder, index_file.name), suffix)
            return sorted(set(index.values())), index
    if any(folder.glob("adapter_model.*")):
        raise CheckpointError(
            f"{folder} is a LoRA adapter, not a whole model; name it as a source, and the model "
            "that it was trained on as the base"
        )
    what = "has no weights" if any(folder.iterdir()) else "is empty"
    raise CheckpointError(
        f"{folder} {what}: expected model.safetensors or model.safetensors.index.json; "
        "check the path, or download the checkpoint again"
    )


def _read_index(folder: Path, index_file: Path, suffix: str) -> dict[str, Path]:
    weight_map = read_json(index_file).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(
            f"{index_file} has no weight_map that names tensors; download or copy it again"
        )
    index: dict[str, Path] = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not shard.endswith(suffix):
            raise CheckpointError(
                f"{index_file} places tensor {name!r} in {shard!r}, which is not a {suffix} file; "
                "download or copy it again"
            )
        index[name] = inside(folder, shard)
        if not index[name].exists():
            raise CheckpointError(
                f"{index_file} names the shard {shard}, which is missing; download it again"
            )
    return index


def _refuse_mixed(folder: Path, single: str, index_file: Path) -> None:
    """Loaders take a single file alone, whatever an index beside it says."""
    if not index_file.exists():
        return
    weight_map = read_json(inside(folder, index_file.name)).get("weight_map")
    placed = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    others = sorted(str(shard) for shard in placed - {single} if (folder / str(shard)).exists())
    if single in placed and others:
        raise CheckpointError(
            f"{folder} has its tensors in {single} and, by {index_file.name}, in {others[0]}, "
            f"which loaders leave out beside a {single}; rename {single} in the folder and in the "
            "index, such as to model-00001-of-00002.safetensors"
        )


def one_copy(
    folder: Path, held: Mapping[Path, Mapping[str, TensorInfo]], index: Mapping[str, Path] | None
) -> dict[str, TensorInfo]:
    """Every tensor of a folder once, by its stored name, in the file where the index places it.

    Args:
        folder: for messages.
        held: what each of the files holds.
        index: `{tensor: file}`; None where there is one file and no index.

    Raises:
        CheckpointError: index and shards do not fit, or loaders would take other copies.
    """
    if index is None:
        return {name: info for infos in held.values() for name, info in infos.items()}
    holders: dict[str, list[Path]] = {}
    for file, infos in held.items():
        for name in infos:
            if name not in index:
                raise CheckpointError(
                    f"{file} holds tensor {name!r}, which the index of {folder} does not name; "
                    "index and shards belong to different checkpoints, download it again"
                )
            holders.setdefault(name, []).append(file)
    for name, file in index.items():
        if file not in holders.get(name, ()):
            raise CheckpointError(
                f"the index of {folder} places tensor {name!r} in {file.name}, which does not "
                "hold it; index and shards belong to different checkpoints, download it again"
            )
    disputed = [
        name
        for name, files in holders.items()
        if max(files) != index[name] and not _equal(held, name, index[name], max(files))
    ]
    if disputed:
        first = disputed[0]
        placed, last = index[first].name, max(holders[first]).name
        others = f" and {len(disputed) - 1} more tensors" if len(disputed) > 1 else ""
        raise CheckpointError(
            f"{folder} holds {first!r}{others} twice, with other values: the index places it in "
            f"{placed}, and loaders that read files in order keep the copy in {last}; remove the "
            f"copy that is not wanted, or, if {placed} is right, give it a name that comes last, "
            "in the index too"
        )
    return {name: held[file][name] for name, file in index.items()}


def _equal(
    held: Mapping[Path, Mapping[str, TensorInfo]], name: str, one: Path, other: Path
) -> bool:
    """Whether two files hold the same tensor; of pickles this is not known."""
    a, b = held[one][name], held[other][name]
    if (a.shape, a.dtype) != (b.shape, b.dtype) or a.offset is None or b.offset is None:
        return False
    pieces = zip(read_pieces(a, _PIECE), read_pieces(b, _PIECE), strict=True)
    return all(torch.equal(x.view(torch.uint8), y.view(torch.uint8)) for x, y in pieces)
