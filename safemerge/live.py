"""A live transformers model, seen through the names and shapes in which its checkpoint is stored.

transformers 5 may hold as one parameter what a checkpoint stores apart, such as experts, and undoes
that when it saves. Here the same undoing runs on views, so that writing to a stored name writes to
the model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from safemerge.errors import CheckpointError, near_names

if TYPE_CHECKING:
    from safemerge.recipe import Recipe
    from safemerge.resident import ResidentMerge

# Below this size, keeping the activations costs little memory and is faster.
RECOMPUTE_FROM_PARAMETERS = 2**28


class _View(Tensor):
    """A tensor that stays a view where transformers asks for a compact copy before saving."""

    def contiguous(self, *args: Any, **kwargs: Any) -> Tensor:
        return self


def stored_views(model: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Views into a live model's parameters: `{name: view}` for tensors of its checkpoint.

    They stay valid until the model's parameters are replaced or moved.

    Raises:
        CheckpointError: where a tensor is no part of any parameter and cannot be written in place.
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


class LiveGradient:
    """Gradient of a live model's loss with respect to the merge weights that made it.

    While the backward pass runs, each parameter's gradient is projected onto the weights and
    dropped as soon as it is there,

        d loss / d w[g, s] = sum over tensors of group g of <d loss / d W, d W / d w[s]>,

    so no more than one of them and some rows of its deltas are in memory at a time: of a sum of
    deltas that is <d loss / d W, D_s>, of a LoRA <B' d loss / d W, A>.
    """

    def __init__(self, model: Any, resident: ResidentMerge) -> None:
        self._model = model
        self._resident = resident
        self._views = stored_views(model, resident.names)
        stored: dict[int, list[str]] = defaultdict(list)
        for name in resident.changed:  # the others have no gradient, which would take its time
            stored[self._views[name].untyped_storage().data_ptr()].append(name)
        self._merged = [
            (parameter, names)
            for parameter in (*model.parameters(), *model.buffers())
            if (names := stored.get(parameter.untyped_storage().data_ptr()))
        ]

    @contextmanager
    def at(self, recipe: Recipe) -> Iterator[Tensor]:
        """Write a recipe's merge into the model and collect the gradient of what runs inside.

        Yields:
            (n_groups, n_sources), float32, zero at first; every backward pass adds to it.
        """
        self._resident.apply(recipe, self._views)
        shape = (len(self._resident.groups), len(self._resident.source_names))
        gradient = torch.zeros(shape, device=next(iter(self._views.values())).device)
        needed = {parameter: parameter.requires_grad for parameter in self._model.parameters()}
        self._model.requires_grad_(False)
        hooks = []
        for parameter, names in self._merged:
            parameter.requires_grad_()
            take = partial(self._take, gradient, recipe, names)
            hooks.append(parameter.register_post_accumulate_grad_hook(take))
        try:
            with _recomputed(self._model):
                yield gradient
        finally:
            for hook in hooks:
                hook.remove()
            for parameter, _ in self._merged:
                parameter.requires_grad_(False)
            for parameter, before in needed.items():
                parameter.requires_grad_(before)

    def _take(
        self,
        gradient: Tensor,
        recipe: Recipe,
        names: list[str],
        parameter: Tensor,
    ) -> None:
        """Add a parameter's share to the gradient, and drop its own."""
        assert parameter.grad is not None  # that is when it is called
        own = parameter.grad.contiguous()
        parameter.grad = None
        for name in names:
            at_view = own.as_strided(*_place(self._views[name], parameter))
            row, share = self._resident.weight_gradient(name, recipe, at_view)
            gradient[row] += share


@contextmanager
def _recomputed(model: Any) -> Iterator[None]:
    """Activations inside a large model's layers are computed again, not kept, where it can do so.

    transformers does this in training alone, so the layers are said to be: not what is inside of
    them, where dropout would draw.
    """
    layers = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]
    size = sum(parameter.numel() for parameter in model.parameters())
    able = getattr(model, "supports_gradient_checkpointing", False)
    if size < RECOMPUTE_FROM_PARAMETERS or not able:
        yield
        return
    # Its name before transformers 5.23, and the one since.
    kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    getattr(model, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    before = [module.training for module in layers]
    for module in layers:
        module.training = True
    try:
        yield
    finally:
        for module, training in zip(layers, before, strict=True):
            module.training = training
        getattr(model, f"{kind}_checkpointing_disable")()


def _as_stored(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a model as its checkpoint stores it, as views wherever it can be."""
    if not hasattr(model, "save_pretrained"):
        return state
    from transformers.core_model_loading import revert_weight_conversion

    as_views = {name: tensor.as_subclass(_View) for name, tensor in state.items()}
    stored = revert_weight_conversion(model, as_views)
    return {name: tensor.as_subclass(Tensor) for name, tensor in stored.items()}


def _place(view: Tensor, parameter: Tensor) -> tuple[torch.Size, tuple[int, ...], int]:
    """Size, stride, and offset of a view within its parameter."""
    offset = int(view.storage_offset()) - int(parameter.storage_offset())
    return view.size(), view.stride(), offset
