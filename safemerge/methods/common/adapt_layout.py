"""Any method, for matrices that are stored as a stack or transposed.

Methods are written for one matrix (out, in): a stack of experts is merged matrix by matrix, and a
matrix stored as (in, out) is turned first.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from safemerge.low_rank import Deltas
from safemerge.methods.common.method import Measured, Method, Selection, Site, State, a_few_copies
from safemerge.names import Layout


def adapt_layout(method: Method, layout: Layout) -> Method:
    """The method for tensors of a layout; itself where no layout makes a difference to it.

    The state holds those of all matrices, their keys behind `0.`, `1.`, ... A seed's draws differ
    from matrix to matrix. The density of a stack is that of its densest matrix.
    """
    entry_by_entry = method.piecewise and method.sums is None
    if layout == Layout() or entry_by_entry:
        return method

    def matrices(tensor: Tensor) -> Tensor:  # (..., out, in) or a layout of it -> (..., n, out, in)
        stack = tensor if layout.stacked else tensor.unsqueeze(-3)
        return (stack.mT if layout.transposed else stack).contiguous()

    def by_matrix(deltas: Deltas) -> list[Deltas]:
        if isinstance(deltas, Tensor):
            return [changes.contiguous() for changes in matrices(deltas).unbind(1)]
        return [[delta.transposed() if layout.transposed else delta for delta in deltas]]

    def prepare(base: Tensor, deltas: Deltas, params: Any, site: Site) -> State:
        bases, changes = matrices(base), by_matrix(deltas)
        important = None if site.importance is None else matrices(site.importance)
        states = []
        for i, matrix in enumerate(bases):
            at = replace(
                site,
                tensor=f"{site.tensor}[{i}]" if layout.stacked else site.tensor,
                importance=None if important is None else important[:, i],
            )
            states.append(method.prepare(matrix, changes[i], params, at))
        joined = _joined(states)
        if states and "density" in states[0]:
            joined["density"] = torch.stack([state["density"] for state in states]).max()
            joined["norm"] = torch.stack([state["norm"] for state in states])
        return joined

    def select(state: State, selection: Selection, params: Any) -> State:
        assert method.select is not None
        return _joined([method.select(part, selection, params) for part in _apart(state)])

    def combine(base: Tensor, state: State, weights: Tensor, params: Any) -> Tensor:
        parts = zip(matrices(base), _apart(state), strict=True)
        merged = [method.merged(matrix, part, weights, params) for matrix, part in parts]
        if not merged:
            return base.float()
        stack = torch.stack(merged)
        stack = stack.mT if layout.transposed else stack
        return stack if layout.stacked else stack.squeeze(-3)

    def measure(deltas: Deltas, params: Any, site: Site) -> Measured:
        assert method.measure is not None
        each = [method.measure(own, params, site) for own in by_matrix(deltas)]
        norms = chain.from_iterable(one.norms for one in each)
        return Measured(max((one.density for one in each), default=0.0), tuple(norms))

    def footprint(shape: tuple[int, ...], n_sources: int) -> int:
        matrix = shape[1:] if layout.stacked else shape
        return a_few_copies(shape, n_sources) + method.footprint(matrix, n_sources)

    return replace(
        method,
        prepare=prepare,
        combine=combine,
        select=None if method.select is None else select,
        weigh=None,
        piecewise=False,
        sums=None,
        rows=False,
        entrywise=(),
        linear=False,
        footprint=footprint,
        measure=None if method.measure is None else measure,
    )


def _joined(states: list[State]) -> dict[str, Tensor]:
    return {f"{i}.{key}": value for i, state in enumerate(states) for key, value in state.items()}


def _apart(state: State) -> list[State]:
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        index, dot, name = key.partition(".")
        if dot:
            parts.setdefault(index, {})[name] = value
    return list[State](parts.values())
