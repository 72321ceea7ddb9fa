"""ResidentMerge: everything a search needs to re-merge a live model, held on one device.

Built once for base, sources, method and place profile; `apply(recipe)` then rewrites live
parameters in place with no checkpoint read and no SVD, and `weight_gradient` projects a merged
tensor's gradient onto the weights (`live.LiveGradient` does so for a whole model). With a store,
what a rank ratio took long to compute is read where it was asked for before. Thresholds, inner
products and masks are computed once and not kept on disk: of three deltas of 1024 x 2816 they take
3 to 33 ms, and the hash that would find them 19 (measured).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from safemerge.errors import RecipeError
from safemerge.factors import factoriser
from safemerge.inputs import Inputs, open_inputs
from safemerge.methods import Method, Params, Site, State, get_method
from safemerge.methods.common.adapt_layout import adapt_layout
from safemerge.names import depth_order, place_of
from safemerge.recipe import Recipe
from safemerge.store import TensorStore, content_key
from safemerge.streaming import spread

# Entries from which a CPU merges several tensors at once, each in a thread: of large tensors that
# is nearly twice as fast as threads inside one operation; small ones are done before threads begin.
_THREADS_FROM = 2**24
_VERSION = 1  # of what methods select: another one leaves what was kept before unused


@dataclass(frozen=True, slots=True)
class _Held:
    """One tensor on the device: its base, prepared state, method and place group."""

    base: Tensor
    state: State
    method: Method
    group: str
    module: str


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
            store: keeps what is slow to compute: factors of deltas, and what methods make of them
                at each selection of numbers.
            inputs: the opened checkpoints, where the caller has them already.
        """
        self.method = get_method(recipe.method)
        self.source_names = tuple(source.name for source in recipe.sources)
        params = self.method.check(recipe)
        inputs = open_inputs(recipe) if inputs is None else inputs
        svd = factoriser(store)
        self._store = store
        self._fixed = _fixed_part(recipe, self.method)
        self._held: dict[str, _Held] = {}
        for name, group in inputs.groups(recipe.places).items():
            method = adapt_layout(self.method.for_role(inputs.role(name)), inputs.layout(name))
            base, deltas = inputs.load(name, device)
            important = inputs.positions(name, device) if method.needs_importance else None
            site = Site(name, self.source_names, svd, important)
            state = method.prepare(base, deltas, params, site)
            self._held[name] = _Held(base, state, method, group, place_of(name).module)
        self.names = tuple(self._held)
        self.groups = tuple(sorted({held.group for held in self._held.values()}, key=depth_order))
        self._rows = {group: row for row, group in enumerate(self.groups)}
        self._peak = _peak_density(self._held)
        self._selected: dict[str, tuple[object, State]] = {}
        self._contents: dict[str, str] = {}  # of prepared states, by tensor
        size = sum(held.base.numel() for held in self._held.values())
        self._in_threads = torch.device(device).type == "cpu" and size >= _THREADS_FROM

    def serves(self, recipe: Recipe) -> bool:
        """Whether a recipe is over this object's inputs, method, profile and prepared parameters.

        Raises:
            RecipeError: a parameter that its method does not have.
        """
        return _fixed_part(recipe, get_method(recipe.method)) == self._fixed

    def merged(self, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
        """Every merged tensor of a recipe, in the base's dtype and order: (name, tensor).

        Raises:
            RecipeError: where the recipe is not over this object's inputs, method and profile.
        """
        params = self._checked(recipe)
        self.method.check_weights(recipe)
        for name, held in self._held.items():
            merged = torch.empty_like(held.base)
            self._merge_into(merged, name, held, recipe, params)
            yield name, merged

    def apply(self, recipe: Recipe, live: Mapping[str, Tensor]) -> None:
        """Rewrite live parameters in place.

        Args:
            recipe: over the same inputs, method and profile.
            live: `{name: tensor}` with all merged names, as `stored_views` gives for a model.

        Raises:
            RecipeError: where a tensor is missing or has another shape, or the recipe is not over
                this object's inputs; nothing is changed then.
        """
        missing = sorted(self._held.keys() - live.keys())
        if missing:
            raise RecipeError(
                f"the live model has no tensor {missing[0]!r} ({len(missing)} missing in all); "
                "pass stored_views(model, resident.names), of a model of the base's architecture"
            )
        for name, held in self._held.items():
            if live[name].shape != held.base.shape:
                raise RecipeError(
                    f"{name!r} is {list(live[name].shape)} in the live model and "
                    f"{list(held.base.shape)} in the base; load the model from the base's folder"
                )
        params = self._checked(recipe)
        self.method.check_weights(recipe)

        def rewrite(name: str) -> None:
            held, out = self._held[name], live[name].detach()
            if out.dtype == held.base.dtype:
                self._merge_into(out, name, held, recipe, params)
            else:  # rounded to the base's dtype first, as a written checkpoint is
                merged = torch.empty_like(held.base)
                self._merge_into(merged, name, held, recipe, params)
                out.copy_(merged)

        if self._in_threads:
            spread(self._held, rewrite)
        else:
            for name in self._held:
                rewrite(name)

    def weight_gradient(self, name: str, recipe: Recipe, gradient: Tensor) -> tuple[int, Tensor]:
        """Project a merged tensor's gradient onto the weights at its place.

        Args:
            name: of the tensor.
            recipe: at whose weights; over the same inputs, method and profile.
            gradient: (*shape), d loss / d merged tensor, any floating dtype.

        Returns:
            The index of its place group in `groups`, and d loss / d weights, (n_sources,) float32.

        Raises:
            RecipeError: where the method has no gradient, or the recipe does not fit.
        """
        row, weights, merged = self._differentiable(name, recipe)
        (found,) = torch.autograd.grad(
            merged, weights, gradient.to(merged.dtype), materialize_grads=True
        )
        return row, found

    def weight_slopes(self, name: str, recipe: Recipe) -> tuple[int, Tensor]:
        """What each weight at its place does to a merged tensor, for many gradients at one recipe.

        Args:
            name: of the tensor.
            recipe: at whose weights; over the same inputs, method and profile.

        Returns:
            The index of its place group in `groups`, and d merged tensor / d weights,
            (n_sources, *shape) float32: `weight_gradient` is its product with a gradient.

        Raises:
            RecipeError: as for `weight_gradient`.
        """
        row, weights, merged = self._differentiable(name, recipe)
        # The projection of a gradient is linear in it, so its own derivatives are the slopes.
        gradient = torch.zeros_like(merged).requires_grad_()
        with torch.enable_grad():
            (projected,) = torch.autograd.grad(merged, weights, gradient, create_graph=True)
            by_source = projected.unbind()
        slopes = [
            torch.autograd.grad(one, gradient, retain_graph=True, materialize_grads=True)[0]
            for one in by_source
        ]
        return row, torch.stack(slopes)

    def _differentiable(self, name: str, recipe: Recipe) -> tuple[int, Tensor, Tensor]:
        """Row of the place group, its weights, and the merged tensor as a function of them."""
        if not self.method.differentiable:
            raise RecipeError(
                f"method {self.method.name!r} has no gradient with respect to its weights; "
                "search without a warm start"
            )
        params, held = self._checked(recipe), self._held[name]
        state = self._selection(name, held, recipe, params)
        weights = self._weights(held, recipe).requires_grad_()
        with torch.enable_grad():
            merged = held.method.merged(held.base, state, weights, params)
        return self._rows[held.group], weights, merged

    def _checked(self, recipe: Recipe) -> Params:
        """Parameters of a recipe over this object's inputs, method and profile."""
        fixed = _fixed_part(recipe, self.method)
        if fixed != self._fixed:
            raise RecipeError(
                "this recipe has another base, source, method, place profile or preparing "
                f"parameter than the merge held in memory: {fixed} against {self._fixed}; build a "
                "new ResidentMerge for it"
            )
        return self.method.check(recipe)

    def _merge_into(
        self, out: Tensor, name: str, held: _Held, recipe: Recipe, params: Params
    ) -> None:
        weights = self._weights(held, recipe)
        state = self._selection(name, held, recipe, params)
        held.method.merge_into(out, held.base, state, weights, params)

    def _weights(self, held: _Held, recipe: Recipe) -> Tensor:
        """A recipe's weights at a tensor, (n_sources,)."""
        return torch.tensor(recipe.weights_at(held.group), device=held.base.device)

    def _selection(self, name: str, held: _Held, recipe: Recipe, params: Params) -> State:
        """The state at a recipe's selection.

        The last one of each tensor is remembered, since a gradient descent changes weights at one
        selection many times. Where `select` is slow, all are kept in the store: a search draws its
        rank ratios from a few, and comes back to each.
        """
        if held.method.select is None:
            return held.state
        peak_density = self._peak.get(held.module)
        selection = self.method.selection(recipe, held.group, peak_density)
        key = (selection, None if held.method.slow_select else params)
        known = self._selected.get(name)
        if known is not None and known[0] == key:
            return known[1]
        select = partial(held.method.select, held.state, selection, params)
        if self._store is None or not held.method.slow_select:
            state = select()
        else:
            if name not in self._contents:
                self._contents[name] = content_key(held.state, (_VERSION, held.method.name))
            stored = content_key({}, (self._contents[name], key))
            state = self._store.kept(stored, select, held.base.device)
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


def _peak_density(held: Mapping[str, _Held]) -> dict[str, float]:
    """Highest density among the tensors of each module type: `{module: density}`."""
    peak: dict[str, float] = defaultdict(float)
    for entry in held.values():
        if "density" in entry.state:
            peak[entry.module] = max(peak[entry.module], entry.state["density"].item())
    return dict(peak)
