"""ResidentMerge: everything a search needs to re-merge a live model, held on one device.

`apply(recipe)` rewrites live parameters in place with no checkpoint read and no SVD, and
`weight_gradient` projects a merged tensor's gradient onto the weights (`live.LiveGradient` does so
for a whole model).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from safemerge.errors import RecipeError
from safemerge.factors import factoriser
from safemerge.inputs import Inputs, open_inputs
from safemerge.io import beyond_range, is_finite
from safemerge.merge_tensor import (
    MergeJob,
    merge_tensor,
    peak_density,
    select,
    weights_at,
)
from safemerge.methods import Method, Params, State, get_method
from safemerge.names import depth_order
from safemerge.recipe import Recipe
from safemerge.store import TensorStore, content_key
from safemerge.streaming import spread

# Entries of a model from which a CPU merges several tensors at once, each in a thread.
THREADS_FROM_ENTRIES = 2**24
_VERSION = 1  # of what methods select: another one leaves what was kept before unused


class ResidentMerge:
    """Base, deltas and factors of one recipe's inputs, ready for any weights and ranks.

    Attributes:
        method: the merge method.
        names: the merged tensors, as the base's checkpoint names them.
        source_names: names of the sources, in order.
        groups: place groups, by depth.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        device: torch.device | str = "cpu",
        store: TensorStore | None = None,
        inputs: Inputs | None = None,
    ) -> None:
        """Load and prepare.

        Args:
            recipe: fixes base, sources, method, place profile and the parameters that the method
                reads while preparing; its weights and ranks are not used.
            device: where the tensors are held and merged.
            store: keeps what is slow to compute: factors, and what methods select of them.
            inputs: the opened checkpoints, where the caller has them already.
        """
        self.method = get_method(recipe.method)
        self.source_names = tuple(source.name for source in recipe.sources)
        params = self.method.check(recipe)
        inputs = open_inputs(recipe) if inputs is None else inputs
        job = MergeJob(recipe, inputs, self.method, params, factoriser(store), device)
        self._store = store
        self._fixed = _fixed_part(recipe, self.method)
        self._tensors = {
            name: job.prepare(name, group) for name, group in inputs.groups(recipe.places).items()
        }
        self.names = tuple(self._tensors)
        placed = {tensor.group for tensor in self._tensors.values()}
        self.groups = tuple(sorted(placed, key=depth_order))
        self._rows = {group: row for row, group in enumerate(self.groups)}
        self._peak = peak_density(
            (tensor.module, tensor.state["density"].item())
            for tensor in self._tensors.values()
            if "density" in tensor.state
        )
        self._selected: dict[str, tuple[object, State]] = {}
        self._contents: dict[str, str] = {}  # of prepared states, by tensor
        size = sum(tensor.base.numel() for tensor in self._tensors.values())
        self._in_threads = torch.device(device).type == "cpu" and size >= THREADS_FROM_ENTRIES

    def serves(self, recipe: Recipe) -> bool:
        """Whether a recipe is over the same inputs, method, profile and prepared parameters."""
        return _fixed_part(recipe, get_method(recipe.method)) == self._fixed

    def merged(self, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
        """Every merged tensor of a recipe, in the base's dtype and order: (name, tensor)."""
        params = self._checked(recipe)
        self.method.check_weights(recipe)
        for name, tensor in self._tensors.items():
            merged = torch.empty_like(tensor.base)
            self._merge_into(merged, name, recipe, params)
            self._check_range(merged, name, recipe, params)
            yield name, merged

    def apply(self, recipe: Recipe, live: Mapping[str, Tensor]) -> None:
        """Rewrite live parameters in place.

        Args:
            recipe: over the same inputs, method and profile.
            live: `{name: tensor}` with all merged names, as `stored_views` gives for a model.

        Raises:
            RecipeError: a tensor is missing or has another shape, or the recipe does not fit; then
                nothing is changed. Also where a merged value is beyond the range of its dtype; the
                model then holds a part of the merge until the next one is written.
        """
        missing = sorted(self._tensors.keys() - live.keys())
        if missing:
            raise RecipeError(
                f"the live model has no tensor {missing[0]!r} ({len(missing)} missing in all); "
                "pass stored_views(model, resident.names), of a model of the base's architecture"
            )
        for name, tensor in self._tensors.items():
            if live[name].shape != tensor.base.shape:
                raise RecipeError(
                    f"{name!r} is {list(live[name].shape)} in the live model and "
                    f"{list(tensor.base.shape)} in the base; load the model from the base's folder"
                )
        params = self._checked(recipe)
        self.method.check_weights(recipe)

        def rewrite(name: str) -> None:
            base, out = self._tensors[name].base, live[name].detach()
            if out.dtype == base.dtype:
                self._merge_into(out, name, recipe, params)
            else:  # rounded to the base's dtype first, as a written checkpoint is
                merged = torch.empty_like(base)
                self._merge_into(merged, name, recipe, params)
                out.copy_(merged)
            self._check_range(out, name, recipe, params)

        if self._in_threads:
            spread(self._tensors, rewrite)
        else:
            for name in self._tensors:
                rewrite(name)

    def weight_gradient(self, name: str, recipe: Recipe, gradient: Tensor) -> tuple[int, Tensor]:
        """Project a merged tensor's gradient (*shape, any floating dtype) onto the weights at its
        place.

        Returns:
            The index of its place group in `groups`, and d loss / d weights, (n_sources,) float32.

        Raises:
            RecipeError: where the method has no gradient, or the recipe does not fit.
        """
        row, weights, merged = self._differentiable(name, recipe)
        (projected,) = torch.autograd.grad(
            merged, weights, gradient.to(merged.dtype), materialize_grads=True
        )
        return row, projected

    def weight_slopes(self, name: str, recipe: Recipe) -> tuple[int, Tensor]:
        """Row of a tensor's place group, and d merged tensor / d weights, (n_sources, *shape).

        `weight_gradient` is the product with a gradient; this serves many at one recipe.
        """
        row, weights, merged = self._differentiable(name, recipe)
        # The projection of a gradient is linear in it, so its own derivatives are the slopes.
        gradient = torch.zeros_like(merged).requires_grad_()
        with torch.enable_grad():
            (projected,) = torch.autograd.grad(merged, weights, gradient, create_graph=True)
            by_source = projected.unbind()
        slopes = [
            torch.autograd.grad(product, gradient, retain_graph=True, materialize_grads=True)[0]
            for product in by_source
        ]
        return row, torch.stack(slopes)

    def _differentiable(self, name: str, recipe: Recipe) -> tuple[int, Tensor, Tensor]:
        """Row of the place group, its weights, and the merged tensor as a function of them."""
        if not self.method.differentiable:
            raise RecipeError(
                f"method {self.method.name!r} has no gradient with respect to its weights; "
                "search without a warm start"
            )
        params, tensor = self._checked(recipe), self._tensors[name]
        state = self._selection(name, recipe, params)
        weights = weights_at(tensor, recipe).requires_grad_()
        with torch.enable_grad():
            merged = tensor.method.merged(tensor.base, state, weights, params)
        return self._rows[tensor.group], weights, merged

    def _checked(self, recipe: Recipe) -> Params:
        fixed = _fixed_part(recipe, self.method)
        if fixed != self._fixed:
            raise RecipeError(
                "this recipe has another base, source, method, place profile or preparing "
                f"parameter than the merge held in memory: {fixed} against {self._fixed}; build a "
                "new ResidentMerge for it"
            )
        return self.method.check(recipe)

    def _merge_into(self, out: Tensor, name: str, recipe: Recipe, params: Params) -> None:
        state = self._selection(name, recipe, params)
        merge_tensor(out, self._tensors[name], state, recipe, params)

    def _check_range(self, merged: Tensor, name: str, recipe: Recipe, params: Params) -> None:
        if not is_finite(merged):
            exact = torch.empty_like(merged, dtype=torch.float32)
            self._merge_into(exact, name, recipe, params)
            raise beyond_range(f"the merged tensor {name!r}", merged, exact)

    def _selection(self, name: str, recipe: Recipe, params: Params) -> State:
        """The state at a recipe's selection.

        The last one of each tensor is remembered, since a gradient descent stays at one selection.
        Where `select` is slow, all are kept in the store: a search draws rank ratios from a few.
        """
        tensor = self._tensors[name]
        method = tensor.method
        if method.select is None:
            return tensor.state
        selection = method.selection(recipe, tensor.group, self._peak.get(tensor.module))
        key = (selection, None if method.slow_select else params)
        known = self._selected.get(name)
        if known is not None and known[0] == key:
            return known[1]
        compute = partial(select, tensor, recipe, params, self._peak)
        if self._store is None or not method.slow_select:
            state = compute()
        else:
            if name not in self._contents:
                self._contents[name] = content_key(tensor.state, (_VERSION, method.name))
            stored = content_key({}, (self._contents[name], key))
            state = self._store.kept(stored, compute, tensor.base.device)
        self._selected[name] = (key, state)
        return state


def _fixed_part(recipe: Recipe, method: Method) -> dict[str, object]:
    """What cannot change between recipes applied to one ResidentMerge."""
    return {
        "base": recipe.base.path,
        "sources": [(source.name, source.path, source.importance) for source in recipe.sources],
        "tokenizer": recipe.tokenizer,
        "method": recipe.method,
        "places": recipe.places,
        "prepared with": method.prepare_key(method.parse(recipe.params)),
    }
