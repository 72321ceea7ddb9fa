"""merge(recipe, out): checkpoint to checkpoint, a few tensors at a time.

For each tensor of the base: load it and its deltas, prepare, select, combine, write. The numbers
are those of `ResidentMerge.apply`: both call the same three functions of the method. Tensors are
worked on in parallel within a budget of bytes (`streaming.py`), so that memory depends on the
largest tensor and not on the model; `plan` says beforehand how much that is.
"""

from __future__ import annotations

import math
import resource
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from safemerge.factors import Factoriser, factoriser
from safemerge.inputs import Inputs, open_inputs
from safemerge.io import (
    CardRecord,
    CheckpointWriter,
    SourceRecord,
    TensorSpec,
    check_output,
    copy_sidecars,
    free_bytes,
    write_card,
)
from safemerge.methods import Method, Params, Site, State, get_method
from safemerge.methods.common.adapt_layout import adapt_layout
from safemerge.names import place_of
from safemerge.recipe import Recipe
from safemerge.store import TensorStore
from safemerge.streaming import kept_heap, most_held, work_through

# Working memory that small tensors share. It buys overlap and nothing else: two tensors of 11
# million entries and three sources fit, and a larger tensor than the budget goes alone.
_BUDGET = 512 * 2**20
# Beside the tensors: pages of libraries that are touched for the first time, stacks of threads, and
# freed memory that malloc keeps. Measured: up to 36 MiB.
_SLACK = 64 * 2**20
# Entries of a piece of a tensor, where a method takes pieces: 2 MiB of float32 for each source, so
# that what one operation writes the next one finds in the cache.
_PIECE = 2**19
_DEVICE_PIECE = 2**26  # elsewhere: pieces only limit memory there, and each costs a few launches
# Working memory up to which the pieces of a tensor are kept where they are gone through twice, so
# that it is read and its deltas are formed once: a quarter of the CPU time of model_stock and of
# dare_ties (measured). Three tensors of that size are in progress at once.
_KEPT_PIECES = _BUDGET // 3

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def merge(
    recipe: Recipe,
    out: str | Path,
    *,
    card: CardRecord | None = None,
    allow_pickle: bool = False,
    store: TensorStore | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[str, int, int], None] | None = None,
) -> str:
    """Write the merged checkpoint of a recipe, with its sidecars, model card and recipe.json.

    Args:
        recipe: what to merge.
        out: folder to create; an empty one may exist.
        card: measured numbers for the model card; None writes sources and recipe alone.
        allow_pickle: read `.bin` inputs through torch's weights-only unpickler.
        store: keeps the factors of deltas.
        device: where the arithmetic is done.
        progress: called with (tensor name, tensors done, tensors in all).

    Returns:
        The recipe's hash.

    Raises:
        BadInput: checkpoints that do not fit, a recipe out of range, an output folder that is not
            empty, a full disk. Nothing is left behind.
    """
    job = _Job.open(recipe, allow_pickle=allow_pickle, store=store, device=device)
    layout = job.layout()
    finished = 0

    def one_more(spec: TensorSpec) -> None:
        nonlocal finished
        finished += 1
        if progress is not None:
            progress(spec.name, finished, len(layout))

    with CheckpointWriter(Path(out), layout=layout) as writer, kept_heap():
        peak = job.peak_density()
        work_through(
            layout,
            lambda spec: writer.add(spec.name, job.merged(spec, peak)),
            cost=lambda spec: job.cost(spec.name),
            budget=_BUDGET,
            done=one_more,
        )
        digest = recipe.hash(job.inputs.contents())
        copy_sidecars(job.inputs.base, writer.folder, dtype=recipe.dtype)
        recipe.save(writer.folder / "recipe.json")
        write_card(writer.folder, card or plain_card(recipe, job.inputs, Path(out).name))
    return digest


@dataclass(frozen=True, slots=True)
class Plan:
    """What a merge would do. Times are not guessed: they depend on disk and processor.

    Args:
        tensors: how many are written.
        largest: name of the one that needs most memory.
        read_bytes: read from base and sources, a second pass included where the method takes one.
        written_bytes: tensor data of the output.
        free_bytes: on the disk of the output.
        peak_bytes: most main memory of the process; what it holds already, and the working memory
            of the tensors that may be in progress at once.
    """

    tensors: int
    largest: str
    read_bytes: int
    written_bytes: int
    free_bytes: int
    peak_bytes: int


def plan(recipe: Recipe, out: str | Path, *, allow_pickle: bool = False) -> Plan:
    """What `merge` would do with this recipe, after all its checks; nothing is written.

    Args:
        recipe: as for `merge`.
        out: as for `merge`.
        allow_pickle: as for `merge`.

    Raises:
        BadInput: as for `merge`, a disk that is too small included.
    """
    job = _Job.open(recipe, allow_pickle=allow_pickle, store=None, device="cpu")
    layout = job.layout()
    written = sum(spec.nbytes for spec in layout)
    check_output(Path(out), written)
    costs = {spec.name: job.cost(spec.name) for spec in layout}
    merged = sum(map(job.inputs.stored_bytes, [*job.groups, *job.measured()]))
    passed = sum(job.inputs.base.tensors[name].nbytes for name in costs.keys() - job.groups.keys())
    return Plan(
        tensors=len(layout),
        largest=max(costs, key=costs.__getitem__),
        read_bytes=merged + passed,
        written_bytes=written,
        free_bytes=free_bytes(Path(out)),
        peak_bytes=_held_now() + _SLACK + most_held(list(costs.values()), _BUDGET),
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
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """A recipe with its inputs open and everything checked."""

    recipe: Recipe
    inputs: Inputs
    method: Method
    params: Params
    groups: Mapping[str, str]
    svd: Factoriser
    device: torch.device | str

    @classmethod
    def open(
        cls,
        recipe: Recipe,
        *,
        allow_pickle: bool,
        store: TensorStore | None,
        device: torch.device | str,
    ) -> _Job:
        method = get_method(recipe.method)
        params = method.check(recipe)
        method.check_weights(recipe)
        inputs = open_inputs(recipe, allow_pickle=allow_pickle)
        groups = inputs.checked_groups(recipe)
        return cls(recipe, inputs, method, params, groups, factoriser(store), device)

    def layout(self) -> list[TensorSpec]:
        """What is written: every stored tensor but aliases of tied ones."""
        return [
            TensorSpec(name, info.shape, _out_dtype(self.recipe, info.dtype, info.is_float))
            for name, info in self.inputs.base.tensors.items()
            if name not in self.inputs.base.tied
        ]

    def cost(self, name: str) -> int:
        """Bytes held while one tensor is merged: as read, merged, and what the method needs."""
        info = self.inputs.base.tensors[name]
        if name not in self.groups:
            return info.nbytes
        part = self._part(name)
        together, one_by_one = self.inputs.held_bytes(name)
        written = math.prod(info.shape) * _out_dtype(self.recipe, info.dtype, True).itemsize
        count = len(self.inputs.sources)
        if not part.piecewise:
            return one_by_one + written + part.footprint(info.shape, count)
        if self._keeps_pieces(part, info.shape):
            return together + written + info.nbytes + part.footprint(info.shape, count)
        return together + written + part.footprint((_PIECE,), count)

    def merged(self, spec: TensorSpec, peak: Mapping[str, float]) -> Tensor:
        """One tensor of the result, in the type that is written, on the CPU."""
        name = spec.name
        if name not in self.groups:
            return self.inputs.base.load(name).to(spec.dtype)
        part = self._part(name)
        merged = torch.empty(spec.shape, dtype=spec.dtype)
        if not part.piecewise:
            base, deltas = self.inputs.load(name, self.device)
            self._merge_into(merged, part, name, base, deltas, peak)
        else:
            self._merge_pieces(merged, part, name)
        return merged

    def _part(self, name: str) -> Method:
        """The method for a tensor's role and layout."""
        return adapt_layout(self.method.for_role(self.inputs.role(name)), self.inputs.layout(name))

    def _keeps_pieces(self, part: Method, shape: tuple[int, ...]) -> bool:
        """Whether the pieces of a tensor are gone through twice, and small enough to keep."""
        small = part.footprint(shape, len(self.inputs.sources)) <= _KEPT_PIECES
        return part.sums is not None and small

    def _merge_into(
        self,
        out: Tensor,
        part: Method,
        name: str,
        base: Tensor,
        deltas: Tensor,
        peak: Mapping[str, float],
    ) -> None:
        important = self.inputs.positions(name, self.device) if part.needs_importance else None
        state = part.prepare(base, deltas, self.params, self._site(name, important))
        group = self.groups[name]
        if part.select is not None:
            peak_density = peak.get(place_of(name).module)
            selection = self.method.selection(self.recipe, group, peak_density)
            state = part.select(state, selection, self.params)
        weights = torch.tensor(self.recipe.weights_at(group), device=base.device)
        part.merge_into(out, base, state, weights, self.params)

    def _merge_pieces(self, out: Tensor, part: Method, name: str) -> None:
        """`_merge_into` piece by piece: what one operation writes the next finds in the cache."""
        device, group = torch.device(self.device), self.groups[name]
        selection = self.method.selection(self.recipe, group)

        def pieces() -> Iterator[tuple[slice, Tensor, State]]:
            entries = _PIECE if device.type == "cpu" else _DEVICE_PIECE
            for piece, base, deltas in self.inputs.pieces(name, entries, device):
                site = self._site(name, begin=piece.start)
                state = part.prepare(base, deltas, self.params, site)
                if part.select is not None:
                    state = part.select(state, selection, self.params)
                yield piece, base, state

        summed = () if part.sums is None else part.sums(self.params)
        sums: dict[str, Tensor] = {}
        kept: list[tuple[slice, Tensor, State]] = []
        if summed:
            keeps = self._keeps_pieces(part, out.shape)
            for piece in pieces():
                _, _, state = piece
                for key in summed:
                    sums[key] = sums[key] + state[key] if key in sums else state[key]
                if keeps:
                    kept.append(piece)
        weights, flat = torch.tensor(self.recipe.weights_at(group), device=device), out.view(-1)
        for entries, base, state in kept or pieces():
            part.merge_into(flat[entries], base, {**state, **sums}, weights, self.params)

    def _site(self, name: str, importance: Tensor | None = None, begin: int = 0) -> Site:
        sources = tuple(source.name for source in self.recipe.sources)
        return Site(name, sources, self.svd, importance, begin)

    def measured(self) -> list[str]:
        """Tensors whose density is taken before the merge, a reading of its own."""
        if self.method.density is None:
            return []
        return [name for name in self.groups if self.inputs.role(name) == "matrix"]

    def peak_density(self) -> dict[str, float]:
        """Highest density of each module type, a pass over the files before the merging one.

        Only methods that declare a density need it.
        """
        peak: dict[str, float] = defaultdict(float)
        found: dict[str, float] = {}

        def measure(name: str) -> None:
            density = self._part(name).density
            assert density is not None
            _, deltas = self.inputs.load(name, self.device)
            found[name] = density(deltas, self.params)

        work_through(self.measured(), measure, cost=self.cost, budget=_BUDGET)
        for name, value in found.items():
            module = place_of(name).module
            peak[module] = max(peak[module], value)
        return peak


def _held_now() -> int:
    """Resident memory of this process in bytes: Python, torch and what the caller keeps."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # not Linux: the most it has held so far, there in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()


def _out_dtype(recipe: Recipe, dtype: torch.dtype, is_float: bool) -> torch.dtype:
    return _DTYPES[recipe.dtype] if recipe.dtype is not None and is_float else dtype
