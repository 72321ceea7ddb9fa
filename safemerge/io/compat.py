"""Whether checkpoints can be merged: the same tensors, the same shapes, only finite numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch

from safemerge.errors import CheckpointError, RecipeError
from safemerge.io.files import setting
from safemerge.io.reader import Checkpoint
from safemerge.names import is_constant, is_vocabulary

Shape = tuple[int, ...]
_SHOWN = 3  # differences listed before "and n more"


def check_compatible(base: Checkpoint, source: Checkpoint, *, any_vocabulary: bool = False) -> None:
    """Refuse a source whose tensors do not line up with the base's.

    Stored copies of tied tensors and computed constants are left out. Dtypes may differ, but a
    tensor must be floating point in all or in none. With `any_vocabulary` embeddings and heads may
    have other rows, which will be mapped.
    """
    _refuse_bare_beside_wrapped(base, source)
    if base.tied != source.tied:
        name = min(base.tied ^ source.tied)
        owner, other = (base, source) if name in base.tied else (source, base)
        raise CheckpointError(
            f"{name} is tied to the embedding in {owner.folder} and its own matrix in "
            f"{other.folder}; such models cannot be merged, use sources of the same base"
        )
    sizes = [setting(checkpoint.config, "vocab_size") for checkpoint in (base, source)]
    known = all(isinstance(size, int) for size in sizes)
    if known and not any_vocabulary and sizes[0] != sizes[1]:
        raise CheckpointError(
            f"vocab_size is {sizes[0]} in {base.folder} and {sizes[1]} in {source.folder}; use "
            "sources with the base's vocabulary, or tokenizer = 'base' to map theirs to it"
        )
    differences = _differences(base, source, any_vocabulary)
    if differences:
        more = len(differences) - _SHOWN
        tail = f"; and {more} more" if more > 0 else ""
        raise CheckpointError(
            f"{source.folder} does not fit the base {base.folder}: "
            f"{'; '.join(differences[:_SHOWN])}{tail}. Use sources that were trained from this base"
        )


def same_shape(name: str, ours: Shape, theirs: Shape, *, any_vocabulary: bool) -> bool:
    """Whether tensors of two models have the same shape, apart from rows that will be mapped."""
    return ours == theirs or (any_vocabulary and is_vocabulary(name) and ours[1:] == theirs[1:])


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity; other than floating types never do."""
    if not tensor.numel() or not tensor.is_floating_point():
        return True
    # A sum carries NaN and infinity, at half the cost of looking for them. One that overflows says
    # nothing yet; of float16 it would often, of bfloat16 with its wider range hardly ever.
    wide = torch.float32 if tensor.dtype == torch.float16 else None
    if math.isfinite(tensor.sum(dtype=wide).item()):
        return True
    low, high = tensor.aminmax()  # carries NaN, and needs no mask the size of the tensor
    return math.isfinite(low.item()) and math.isfinite(high.item())


def check_finite(name: str, tensor: torch.Tensor, where: str | Path) -> None:
    """Refuse a tensor of a file or folder (`where`) that holds NaN or infinity."""
    if is_finite(tensor):
        return
    nan, inf = int(tensor.isnan().sum()), int(tensor.isinf().sum())
    raise CheckpointError(
        f"tensor {name!r} in {where} holds {nan} NaN and {inf} infinite values of "
        f"{tensor.numel()}; that training run diverged or the file is damaged, use another "
        "checkpoint"
    )


def load_finite(checkpoint: Checkpoint, name: str) -> torch.Tensor:
    """One tensor as stored, or as held; a CheckpointError where a value is NaN or infinite."""
    tensor = checkpoint.load(name)
    if not checkpoint.holds(name):  # what is held was checked before
        check_finite(name, tensor, checkpoint.folder)
    return tensor


def finite_pieces(checkpoint: Checkpoint, name: str, entries: int) -> Iterator[torch.Tensor]:
    """`load_finite` in flat pieces of entries."""
    held = checkpoint.holds(name)
    for piece in checkpoint.pieces(name, entries):
        if not held and not is_finite(piece):
            load_finite(checkpoint, name)  # counts all that are not
        yield piece


def beyond_range(what: str, tensor: torch.Tensor, exact: torch.Tensor) -> RecipeError:
    """The error for a result that is not finite in the dtype of `tensor`.

    `what` names it, such as "the merged tensor 'w'"; `exact` is the same in float32, of which one
    value is shown.
    """
    lost = ~tensor.isfinite()
    values = exact.to(tensor.device)[lost]
    dtype = tensor.dtype if values.isfinite().any() else torch.float32
    wider = " write it as bfloat16 or float32 (dtype), or" if dtype == torch.float16 else ""
    return RecipeError(
        f"{what} has {int(lost.sum())} values that {str(dtype)[6:]} cannot hold, such as "
        f"{values[0].item():g} (its range ends at {torch.finfo(dtype).max:g});{wider} take smaller "
        "weights or a smaller scale"
    )


def _refuse_bare_beside_wrapped(base: Checkpoint, source: Checkpoint) -> None:
    """The first GPT-2 and BLOOM store `h.0...`, and their tunes `transformer.h.0...`."""
    for bare, wrapped in ((base, source), (source, base)):
        alone = {n for n in bare.tensors.keys() - wrapped.tensors.keys() if not is_constant(n)}
        if alone and alone <= {name.partition(".")[2] for name in wrapped.tensors}:
            raise CheckpointError(
                f"{bare.folder} stores a bare decoder ({min(alone)}), and {wrapped.folder} the "
                "model around it; save the former again with "
                "AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)"
            )


def _differences(base: Checkpoint, source: Checkpoint, any_vocabulary: bool) -> list[str]:
    differences = []
    names = (base.tensors.keys() | source.tensors.keys()) - base.tied
    for name in sorted(name for name in names if not is_constant(name)):
        ours, theirs = base.tensors.get(name), source.tensors.get(name)
        if ours is None:
            differences.append(f"{name} is only in the source")
        elif theirs is None:
            differences.append(f"{name} is only in the base")
        elif not same_shape(name, ours.shape, theirs.shape, any_vocabulary=any_vocabulary):
            shapes = [list(info.shape) for info in (ours, theirs)]
            differences.append(f"{name} is {shapes[0]} in the base, {shapes[1]} here")
        elif ours.is_float != theirs.is_float:
            kinds = [str(info.dtype)[6:] for info in (ours, theirs)]
            differences.append(f"{name} is {kinds[0]} in the base, {kinds[1]} here")
    return differences
