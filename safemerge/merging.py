"""merge(recipe, out): checkpoint to checkpoint, a few tensors at a time.

Tensors are worked on in parallel within a budget of bytes (`streaming.py`), so that memory depends
on the largest one and not on the model; `plan` says beforehand how much that is.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from safemerge.factors import factoriser
from safemerge.inputs import Inputs, open_inputs
from safemerge.io import (
    CardRecord,
    CheckpointWriter,
    SourceRecord,
    TensorSpec,
    beyond_range,
    chat_template_of,
    check_output,
    copy_sidecars,
    free_bytes,
    is_finite,
    load_finite,
    write_card,
)
from safemerge.merge_tensor import (
    HELD_BYTES,
    MergeJob,
    gone_through_twice,
    merge_tensor,
    peers,
    select,
)
from safemerge.methods import get_method
from safemerge.methods.common.method import Measured, Peers
from safemerge.names import place_of
from safemerge.recipe import Recipe, Vocabulary
from safemerge.store import TensorStore
from safemerge.streaming import kept_heap, most_held, work_through

# Working memory that small tensors share; a larger tensor goes alone.
_BUDGET = 512 * 2**20
_SLACK = 64 * 2**20  # libraries that are touched for the first time, stacks, freed memory


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How a merge is done; none of it changes the result beyond rounding.

    Args:
        allow_pickle: read `.bin` inputs through torch's weights-only unpickler.
        store: keeps the factors of deltas.
        device: where the arithmetic is done.
    """

    allow_pickle: bool = False
    store: TensorStore | None = None
    device: torch.device | str = "cpu"


def merge(
    recipe: Recipe,
    out: str | Path,
    *,
    options: MergeOptions = MergeOptions(),
    card: CardRecord | str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> str:
    """Write the merged checkpoint of a recipe, with its sidecars, model card and recipe.json.

    Args:
        recipe: what to merge.
        out: folder to create; an empty one may exist.
        options: how.
        card: measured numbers for the model card; without them sources and recipe alone are
            written, under a title that is given or, with None, the folder's name.
        progress: called with (tensor name, tensors done, tensors in all).

    Returns:
        The recipe's hash.

    Raises:
        BadInput: checkpoints that do not fit, a recipe out of range, a result beyond the range of
            its dtype, an output folder that is not empty or cannot be written, a full disk. Nothing
            is left behind.
    """
    check_output(Path(out))  # before inputs are opened, whose content may have to be read first
    merging = _StreamedMerge.open(recipe, options)
    items = merging.items()
    finished = 0

    def count(spec: TensorSpec) -> None:
        nonlocal finished
        finished += 1
        if progress is not None:
            progress(spec.name, finished, len(items))

    def write(writer: CheckpointWriter, spec: TensorSpec, tensor: Tensor) -> None:
        for name, part in merging.stored(spec.name, tensor):
            writer.add(name, part)

    with CheckpointWriter(Path(out), layout=merging.layout()) as writer, kept_heap():
        peers_of = merging.peers()
        work_through(
            items,
            lambda spec: write(writer, spec, merging.merged(spec, peers_of)),
            cost=lambda spec: merging.cost(spec.name),
            budget=_BUDGET,
            done=count,
        )
        inputs = merging.job.inputs
        digest = recipe.hash(inputs.contents())
        copy_sidecars(
            inputs.base,
            writer.folder,
            dtype=recipe.dtype,
            chat_template=merging.chat_template,
            tokenizer=inputs.tokenizer,
        )
        recipe.save(writer.folder / "recipe.json")
        if not isinstance(card, CardRecord):
            card = plain_card(recipe, inputs, card or Path(out).name)
        write_card(writer.folder, card)
    return digest


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What a merge would do.

    Args:
        tensors: how many are written.
        largest: name of the one that needs most memory.
        read_bytes: read from base and sources, a second pass included where there is one.
        written_bytes: tensor data of the output.
        free_bytes: on the disk of the output.
        peak_bytes: most main memory of the process, with what it holds already.
    """

    tensors: int
    largest: str
    read_bytes: int
    written_bytes: int
    free_bytes: int
    peak_bytes: int


def plan(recipe: Recipe, out: str | Path, options: MergeOptions = MergeOptions()) -> MergePlan:
    """What `merge` would do, after all its checks, the disk included; nothing is written."""
    check_output(Path(out))
    merging = _StreamedMerge.open(recipe, options)
    inputs, groups, layout = merging.job.inputs, merging.groups, merging.items()
    written = sum(spec.nbytes for spec in layout)
    check_output(Path(out), written)
    costs = {spec.name: merging.cost(spec.name) for spec in layout}
    read = sum(map(inputs.stored_bytes, [*groups, *merging.measured()]))
    copied = sum(inputs.base.tensors[name].nbytes for name in costs.keys() - groups.keys())
    return MergePlan(
        tensors=len(layout),
        largest=max(costs, key=costs.__getitem__),
        read_bytes=read + copied,
        written_bytes=written,
        free_bytes=free_bytes(Path(out)),
        peak_bytes=_resident_bytes() + _SLACK + most_held(list(costs.values()), _BUDGET),
    )


def plain_card(recipe: Recipe, inputs: Inputs, title: str) -> CardRecord:
    """The card of a merge of which nothing has been measured."""
    contents = inputs.contents()
    return CardRecord(
        title=title,
        base=recipe.base.path,
        sources=tuple(
            SourceRecord(name=ref.name, path=ref.path, content=contents[ref.name])
            for ref in (recipe.base, *recipe.sources)
        ),
        method=recipe.method,
        recipe_json=recipe.canonical_json(),
        notes=tuple(_notes(recipe)),
    )


def _notes(recipe: Recipe) -> Iterator[str]:
    """Sentences on what of the merged model is not as in its base."""
    if recipe.stack:
        depth = sum(end - first for part in recipe.stack for first, end in [*part.values()][:1])
        parts = "; ".join(
            ", ".join(f"{first} to {end - 1} of {name}" for name, (first, end) in part.items())
            for part in recipe.stack
        )
        yield f"Stacked: this model has {depth} layers, which are {parts}."
    if isinstance(recipe.tokenizer, Vocabulary):
        whose = {"union": "the union of its models' tokenizers", "base": "its base's tokenizer"}
        other = f"the tokenizer of {recipe.tokenizer.model}"
        yield f"It has {whose.get(recipe.tokenizer.source, other)}."


@dataclass(frozen=True, slots=True)
class _StreamedMerge:
    """A recipe with its inputs open and everything checked."""

    job: MergeJob
    groups: Mapping[str, str]
    chat_template: str | None  # None keeps the base's

    @classmethod
    def open(cls, recipe: Recipe, options: MergeOptions) -> _StreamedMerge:
        method = get_method(recipe.method)
        params = method.check(recipe)
        method.check_weights(recipe)
        inputs = open_inputs(recipe, allow_pickle=options.allow_pickle)
        groups = inputs.checked_groups(recipe)
        svd = factoriser(options.store)
        template = recipe.chat_template and chat_template_of(recipe.chat_template, inputs.folders)
        job = MergeJob(recipe, inputs, method, params, svd, options.device)
        return cls(job, groups, template)

    def layout(self) -> list[TensorSpec]:
        """What is written: experts as the base stores them."""
        return [
            TensorSpec(name, tuple(part.shape), spec.dtype)
            for spec in self.items()
            for name, part in self.stored(spec.name, torch.empty(spec.shape, device="meta"))
        ]

    def stored(self, name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
        """A tensor as the base stores it, by names; fused experts in their parts."""
        parts = (self.job.inputs.fused or {}).get(name)
        return [(name, tensor)] if parts is None else [(p.name, p.of(tensor)) for p in parts]

    def items(self) -> list[TensorSpec]:
        """What is merged: every tensor but aliases of tied ones."""
        base = self.job.inputs.base
        return [
            TensorSpec(name, info.shape, self._out_dtype(name))
            for name, info in base.tensors.items()
            if name not in base.tied
        ]

    def _out_dtype(self, name: str) -> torch.dtype:
        info, wanted = self.job.inputs.base.tensors[name], self.job.recipe.dtype
        if wanted is None or not info.is_float:
            return info.dtype
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype

    def cost(self, name: str) -> int:
        """Bytes held while one tensor is merged: as read, merged, and what the method needs."""
        inputs = self.job.inputs
        info = inputs.base.tensors[name]
        if name not in self.groups:
            return info.nbytes
        method = self.job.method_of(name)
        together, one_by_one = inputs.held_bytes(name)
        written = math.prod(info.shape) * self._out_dtype(name).itemsize
        held = inputs.stored_bytes(name) if self._holds(name) else 0
        beside = together if method.entrywise else one_by_one
        return held + beside + written + self.job.working_bytes(name)

    def _holds(self, name: str) -> bool:
        """Whether a tensor's inputs are held, as they are stored, from one pass to the next."""
        twice = gone_through_twice(self.job, name, self.job.params)
        return twice and self.job.inputs.stored_bytes(name) <= HELD_BYTES

    def merged(self, spec: TensorSpec, peers_of: Mapping[str, Peers]) -> Tensor:
        """One tensor of the result, in the type that is written, on the CPU.

        Raises:
            RecipeError: a value is beyond the range of that type.
        """
        merged = self._merged(spec, peers_of)
        if not is_finite(merged):
            exact = self._merged(replace(spec, dtype=torch.float32), peers_of)
            # Attention masks of old checkpoints may hold infinities; those are passed through.
            if spec.name in self.groups or is_finite(exact):
                raise beyond_range(f"the merged tensor {spec.name!r}", merged, exact)
        return merged

    def _merged(self, spec: TensorSpec, peers_of: Mapping[str, Peers]) -> Tensor:
        job, group = self.job, self.groups.get(spec.name)
        unchanged = self.job.method.zero_is_base and not job.inputs.changes(spec.name)
        if group is None or unchanged:
            load = job.inputs.base.load if group is None else partial(load_finite, job.inputs.base)
            return load(spec.name).to(spec.dtype)
        out = torch.empty(spec.shape, dtype=spec.dtype)
        if self._holds(spec.name):
            job.inputs.hold(spec.name)
        try:
            its = peers_of.get(place_of(spec.name).module, Peers())
            selection = job.method_of(spec.name).selection(job.recipe, group, its)
            state = select(job, spec.name, selection, job.params)
            weights = torch.tensor(job.recipe.weights_at(group), device=job.device)
            merge_tensor(out, job, spec.name, state, weights, job.params)
        finally:
            job.inputs.release(spec.name)
        return out

    def measured(self) -> list[str]:
        """Tensors that are measured before the merge, in a reading of its own."""
        if self.job.method.measure is None:
            return []
        return [name for name in self.groups if self.job.inputs.role(name) == "matrix"]

    def peers(self) -> dict[str, Peers]:
        """Of each module type, for methods that measure."""
        found: dict[str, Measured] = {}

        def measure(name: str) -> None:
            method = self.job.method_of(name)
            assert method.measure is not None
            _, deltas = self.job.deltas(name)
            found[name] = method.measure(deltas, self.job.params, self.job.site(name))

        work_through(self.measured(), measure, cost=self.cost, budget=_BUDGET)
        return peers((place_of(name).module, own) for name, own in found.items())


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # not Linux: the most it has held so far, there in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()
