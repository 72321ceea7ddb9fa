"""A live transformers model, seen through the names and shapes in which its checkpoint is stored.

transformers 5 may hold what a checkpoint stores apart as one parameter: the experts of a mixture
are separate matrices on disk and one (experts, out, in) tensor in memory. It can undo that when it
saves; here the same undoing runs on views, so that writing to a stored name writes to the model.
Ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from safemerge.errors import CheckpointError, near_names


class _View(Tensor):
    """A tensor that stays a view where transformers asks for a compact copy before saving."""

    def contiguous(self, *args: Any, **kwargs: Any) -> Tensor:
        return self


def stored_views(model: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Views into a live model's parameters, under the names of a checkpoint.

    Args:
        model: a transformers model, or any module that stores its tensors as it holds them.
        names: tensors of the checkpoint.

    Returns:
        `{name: view}` in the order of `names`, each of the shape in which it is stored. They stay
        valid until the model's parameters are replaced or moved.

    Raises:
        CheckpointError: where a tensor is not a part of any parameter, so that it cannot be
            written in place.
    """
    state = model.state_dict()
    owners = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
    stored = _as_stored(model, state)
    prefix = getattr(model, "base_model_prefix", "")
    views = {}
    for name in names:
        # Checkpoints of a bare decoder, such as the first GPT-2's, leave its prefix out.
        view = stored.get(name, stored.get(f"{prefix}.{name}"))
        if view is None or view.untyped_storage().data_ptr() not in owners:
            why = near_names(name, stored) if view is None else "it is computed from parameters"
            raise CheckpointError(
                f"the tensor {name!r} is no part of a parameter of the live "
                f"{type(model).__name__} ({why}); load that model from the base's folder, or save "
                "the base again with save_pretrained to give its tensors their present names"
            )
        views[name] = view
    return views


def live_parameters(
    model: nn.Module, views: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Stored tensors put together as the parameters of a live model, differentiably.

    Args:
        model: where `views` lead.
        views: what `stored_views` returned.
        tensors: `{name: tensor}` of the views' shapes, for some of the names; what they leave out
            of a parameter keeps the model's values.

    Returns:
        `{parameter name: tensor}` for `torch.func.functional_call`.
    """
    parts: dict[int, list[str]] = defaultdict(list)
    for name in tensors:
        parts[views[name].untyped_storage().data_ptr()].append(name)
    parameters = {}
    for parameter_name, parameter in (*model.named_parameters(), *model.named_buffers()):
        names = parts.get(parameter.untyped_storage().data_ptr(), [])
        if len(names) == 1 and views[names[0]].shape == parameter.shape:
            parameters[parameter_name] = tensors[names[0]]
        elif names:
            places = [_place(views[name], parameter) for name in names]
            parameters[parameter_name] = _Assembled.apply(  # type: ignore[no-untyped-call]  # torch has no types for it
                parameter.detach(), places, *(tensors[name] for name in names)
            )
    return parameters


def _as_stored(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a model as its checkpoint stores it, as views wherever it can be."""
    if not hasattr(model, "save_pretrained"):
        return state
    from transformers.core_model_loading import revert_weight_conversion

    as_views = {name: tensor.as_subclass(_View) for name, tensor in state.items()}
    stored = revert_weight_conversion(model, as_views)
    return {name: tensor.as_subclass(Tensor) for name, tensor in stored.items()}


_Place = tuple[torch.Size, tuple[int, ...], int]  # size, stride, offset within the parameter


def _place(view: Tensor, parameter: Tensor) -> _Place:
    offset = int(view.storage_offset()) - int(parameter.storage_offset())
    return view.size(), view.stride(), offset


class _Assembled(torch.autograd.Function):
    """Parts written into their places of one tensor.

    Assigning to slices would do the same, and copy the whole gradient once for every part.
    """

    @staticmethod
    def forward(ctx: Any, whole: Tensor, places: list[_Place], *parts: Tensor) -> Tensor:
        ctx.places = places
        result = whole.to(parts[0].dtype, memory_format=torch.contiguous_format, copy=True)
        for part, place in zip(parts, places, strict=True):
            result.as_strided(*place).copy_(part)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0].contiguous()
        return (None, None, *(gradient.as_strided(*place) for place in ctx.places))
