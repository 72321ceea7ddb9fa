"""ResidentMerge: everything a search needs to re-merge a live model, and nothing twice.

It is a streamed merge (`merge_tensor`) whose inputs are held, in their own dtype, and that keeps
what the numbers of a trial leave alone: factors, thresholds, inner products. `apply(recipe)`
rewrites live parameters in place with no checkpoint read and no SVD, and `weight_gradient` projects
a merged tensor's gradient onto the weights (`live.LiveGradient` does so for a whole model).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from safemerge.devices import Memory
from safemerge.errors import RecipeError
from safemerge.factors import factoriser
from safemerge.inputs import Inputs, open_inputs
from safemerge.io import beyond_range, is_finite, load_finite
from safemerge.merge_tensor import (
    MergeJob,
    merge_tensor,
    peers,
    select,
    weight_gradient,
)
from safemerge.methods import Method, Params, State, get_method
from safemerge.methods.common.method import Measured, Peers, measured
from safemerge.names import depth_order, place_of
from safemerge.recipe import Recipe
from safemerge.store import TensorStore, content_key
from safemerge.streaming import kept_heap, work_through

# Entries of a model from which a CPU merges several tensors at once, each in a thread.
THREADS_FROM_ENTRIES = 2**24
_WORKING_BYTES = 512 * 2**20  # of all tensors in threads; one that needs more goes alone
_VERSION = 1  # of what methods select: another one leaves what was kept before unused


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One merged tensor, ready for any weights and numbers."""

    method: Method  # for its role and layout
    group: str  # its place group
    changes: bool  # False where no source changes it, so that nothing is held
    measured: Measured | None = None
    # As a whole; None where the method has none, and where the store has its parts.
    state: State | None = None
    content: str | None = None  # of a state whose selections the store keeps


class ResidentMerge:
    """Base, sources and factors of one recipe's inputs, ready for any weights and ranks.

    Attributes:
        method: the merge method.
        names: the merged tensors, as the base's checkpoint names them.
        changed: those of them that a source may change.
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
        memory: Memory = "device",
    ) -> None:
        """Load and prepare.

        Args:
            recipe: fixes base, sources, method, place profile and the parameters that the method
                reads while preparing; its weights and ranks are not used.
            device: where tensors are merged.
            store: keeps what is slow to compute: factors, and what methods select of them.
            inputs: the opened checkpoints, where the caller has them already; their tensors are
                held in them, once for all merges.
            memory: where they are held; the numbers are the same. "device": on the device. "host":
                in main memory, from where they go to the device one at a time. "disk": in their
                files, mapped, which must not change meanwhile.
        """
        self.method = get_method(recipe.method)
        self.source_names = tuple(source.name for source in recipe.sources)
        params = self.method.check(recipe)
        inputs = open_inputs(recipe) if inputs is None else inputs
        self._job = MergeJob(recipe, inputs, self.method, params, factoriser(store), device)
        self._store, self._memory = store, memory
        self._home = device if memory == "device" else "cpu"  # of states
        self._fixed = _fixed_part(recipe, self.method)
        with kept_heap():  # and what was freed goes back at its end
            self._tensors = {
                name: self._prepared(name, group)
                for name, group in inputs.groups(recipe.places).items()
            }
        self.names = tuple(self._tensors)
        self.changed = tuple(
            name
            for name, tensor in self._tensors.items()
            if tensor.changes and not (self.method.zero_is_base and inputs.all_held_as_base(name))
        )
        placed = {tensor.group for tensor in self._tensors.values()}
        self.groups = tuple(sorted(placed, key=depth_order))
        self._rows = {group: row for row, group in enumerate(self.groups)}
        self._peers = peers(
            (place_of(name).module, tensor.measured)
            for name, tensor in self._tensors.items()
            if tensor.measured is not None
        )
        self._selected: dict[str, tuple[object, State]] = {}
        self._unchanged: dict[str, tuple[int, int]] = {}  # address and version of live tensors
        size = sum(inputs.base.tensors[name].nbytes for name in self.names) // 2
        self._in_threads = torch.device(device).type == "cpu" and size >= THREADS_FROM_ENTRIES

    def _prepared(self, name: str, group: str) -> _Prepared:
        job, method = self._job, self._job.method_of(name)
        if self.method.zero_is_base and not job.inputs.changes(name):
            nothing = Measured(0.0, ()) if method.measure else None
            return _Prepared(method, group, changes=False, measured=nothing)
        job.inputs.hold(name, self._memory, job.device, base_alone=not method.entrywise)
        if method.entrywise:
            return _Prepared(method, group, changes=True)
        state = job.prepare(name)
        known = measured(state)
        size = sum(tensor.nbytes for tensor in state.values())
        # Factors of low rank are small, and selected from sooner than the store is asked.
        large = size > job.inputs.base.tensors[name].nbytes
        if self._store is None or not large:
            return _Prepared(method, group, True, known, _at(self._home, state))
        content = content_key(state, (_VERSION, method.name))
        if method.slow_select:  # a selection that the store lacks is made of factors that it has
            return _Prepared(method, group, True, known, None, content)
        if self._memory == "disk":
            state = self._store.kept(content, lambda: state)
        return _Prepared(method, group, True, known, _at(self._home, state))

    def serves(self, recipe: Recipe) -> bool:
        """Whether a recipe is over the same inputs, method, profile and prepared parameters."""
        return _fixed_part(recipe, get_method(recipe.method)) == self._fixed

    def merged(self, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
        """Every merged tensor of a recipe, in the base's dtype and order: (name, tensor)."""
        params = self._checked(recipe)
        self.method.check_weights(recipe)
        for name in self._tensors:
            merged = self._empty(name)
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
        for name in self._tensors:
            shape = self._job.inputs.base.tensors[name].shape
            if live[name].shape != shape:
                raise RecipeError(
                    f"{name!r} is {list(live[name].shape)} in the live model and "
                    f"{list(shape)} in the base; load the model from the base's folder"
                )
        params = self._checked(recipe)
        self.method.check_weights(recipe)

        def rewrite(name: str) -> None:
            out = live[name].detach()
            if not self._tensors[name].changes:
                self._make_base(name, out)
                return
            if out.dtype == self._job.inputs.base.tensors[name].dtype:
                self._merge_into(out, name, recipe, params)
            else:  # rounded to the base's dtype first, as a written checkpoint is
                merged = self._empty(name)
                self._merge_into(merged, name, recipe, params)
                out.copy_(merged)
            self._check_range(out, name, recipe, params)

        if self._in_threads:
            working = self._job.working_bytes
            work_through(self._tensors, rewrite, cost=working, budget=_WORKING_BYTES)
        else:
            for name in self._tensors:
                rewrite(name)

    def weight_gradient(self, name: str, recipe: Recipe, gradient: Tensor) -> tuple[int, Tensor]:
        """Project a merged tensor's gradient (*shape, any floating dtype) onto the weights at its
        place, with no more in memory than a merge of that tensor takes.

        Returns:
            The index of its place group in `groups`, and d loss / d weights, (n_sources,) float32.

        Raises:
            RecipeError: where the method has no gradient, or the recipe does not fit.
        """
        if not self.method.differentiable:
            raise RecipeError(
                f"method {self.method.name!r} has no gradient with respect to its weights; "
                "search without a warm start"
            )
        params, tensor = self._checked(recipe), self._tensors[name]
        row, weights = self._rows[tensor.group], self._weights(name, recipe)
        if not tensor.changes:
            return row, torch.zeros_like(weights)
        state = self._selection(name, recipe, params)
        return row, weight_gradient(self._job, name, state, weights, params, gradient)

    def _weights(self, name: str, recipe: Recipe) -> Tensor:
        weights = recipe.weights_at(self._tensors[name].group)
        return torch.tensor(weights, device=self._job.device)

    def _empty(self, name: str) -> Tensor:
        info = self._job.inputs.base.tensors[name]
        return torch.empty(info.shape, dtype=info.dtype, device=self._job.device)

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
        if not self._tensors[name].changes:
            out.copy_(load_finite(self._job.inputs.base, name))
            return
        state = self._selection(name, recipe, params)
        merge_tensor(out, self._job, name, state, self._weights(name, recipe), params)

    def _make_base(self, name: str, out: Tensor) -> None:
        """Write the base's tensor, unless nobody has written to it since that was done."""
        now = (out.data_ptr(), out._version)
        if self._unchanged.get(name) != now:
            out.copy_(load_finite(self._job.inputs.base, name))
            self._unchanged[name] = (out.data_ptr(), out._version)

    def _check_range(self, merged: Tensor, name: str, recipe: Recipe, params: Params) -> None:
        if not is_finite(merged):
            exact = torch.empty_like(merged, dtype=torch.float32)
            self._merge_into(exact, name, recipe, params)
            raise beyond_range(f"the merged tensor {name!r}", merged, exact)

    def _selection(self, name: str, recipe: Recipe, params: Params) -> State:
        """The state at a recipe's selection, on the device.

        The last one of each tensor is remembered, since a gradient descent stays at one selection.
        Where `select` is slow, all are kept in the store: a search draws rank ratios from a few.
        """
        job, tensor = self._job, self._tensors[name]
        method = tensor.method
        selection = method.selection(
            recipe, tensor.group, self._peers.get(place_of(name).module, Peers())
        )
        key = (selection, None if method.slow_select else params)
        known = self._selected.get(name)
        if known is not None and known[0] == key:
            return _at(job.device, known[1])

        def compute() -> State:
            prepared = None if tensor.state is None else _at(job.device, tensor.state)
            return select(job, name, selection, params, prepared)

        if tensor.content is None or self._store is None:
            state = compute()
        else:
            stored = content_key({}, (tensor.content, key))
            state = self._store.kept(stored, compute)
        # Of a whole state there is nothing to remember but where it is; of a stored one, on disk.
        stays = tensor.content is None or self._memory != "disk"
        if stays and (method.select is not None or method.entrywise):
            self._selected[name] = (key, _at(self._home, state))
        return _at(job.device, state)


def _at(device: torch.device | str, state: State) -> State:
    return {key: tensor.to(device) for key, tensor in state.items()}


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
