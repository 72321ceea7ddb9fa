"""Which slice of a merge file a tensor belongs to, and how deep in that slice it lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safemerge.errors import RecipeError
from safemerge.mergekit.config import MergekitConfig, Slice
from safemerge.names import place_of


@dataclass(frozen=True, slots=True)
class Position:
    """Where a tensor's parameters come from."""

    part: Slice
    depth: float  # in [0, 1], what gradients are interpolated over


def positions(config: MergekitConfig, names: Sequence[str]) -> dict[str, Position]:
    """The position of every tensor: `{name: position}`; the slices must cover the one stack."""
    if not names:
        raise RecipeError("the base has no floating-point tensors; there is nothing to merge")
    layers = {name: place_of(name).layer for name in names}
    n_layers = max((layer for layer in layers.values() if layer is not None), default=-1) + 1
    _check_stack(config, layers, n_layers)
    return {name: _position(config, name, layer, n_layers) for name, layer in layers.items()}


def _position(config: MergekitConfig, name: str, layer: int | None, n_layers: int) -> Position:
    if layer is None:
        # embed_out is the head of GPT-NeoX.
        before = place_of(name).kind == "embedding" and "embed_out" not in name
        return Position(config.slices[0 if before else -1], 0.0)
    for part in config.slices:
        first, end = part.layers or (0, n_layers)
        if layer < end:
            break
    return Position(part, (layer - first) / (end - first - 1) if end - first > 1 else 1.0)


def _check_stack(config: MergekitConfig, layers: dict[str, int | None], n_layers: int) -> None:
    end = config.slices[-1].layers
    if end is not None and end[1] != n_layers:
        raise RecipeError(
            f"the slices end at layer {end[1]}, and the base has {n_layers}; layers cannot be "
            "left out or added"
        )
    if not (end or config.has_gradients):
        return
    stacks = {name.split(f".{n}.", 1)[0] for name, n in layers.items() if n is not None}
    if len(stacks) > 1:
        raise RecipeError(
            f"the base has several stacks of layers ({', '.join(sorted(stacks)[:4])}), so it is "
            "not clear which one slices and gradients run over; use filters with one number each"
        )
