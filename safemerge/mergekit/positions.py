"""Which slice of a merge file a tensor belongs to, and how deep in that slice it lies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safemerge.errors import RecipeError
from safemerge.mergekit.config import MergekitConfig, Slice
from safemerge.names import depth_of, is_before_layers, with_layer


@dataclass(frozen=True, slots=True)
class Position:
    """Where a tensor's parameters come from."""

    part: Slice
    depth: float  # in [0, 1], what gradients are interpolated over


def positions(config: MergekitConfig, names: Sequence[str]) -> dict[str, Position]:
    """The position of every merged tensor: `{name: position}`."""
    if not names:
        raise RecipeError("the base has no floating-point tensors; there is nothing to merge")
    layers = {name: depth_of(name) for name in names}
    n_layers = _depth(layers)
    if config.slices[0].layers or config.has_gradients:
        _check_one_stack(layers)
    return {name: _position(config, name, layer, n_layers) for name, layer in layers.items()}


def stacked_names(config: MergekitConfig, names: Sequence[str]) -> list[str]:
    """The tensors of the merged model, from those of the base, where the slices are another stack.

    The names of layers that the base does not have are those of its last one.
    """
    layers = {name: depth_of(name) for name in names}
    depth = _depth(layers)
    if not config.is_stacked(depth):
        return list(names)
    _check_one_stack(layers)
    found = [name for name, layer in layers.items() if layer is None]
    of_layer: dict[int, list[str]] = defaultdict(list)
    for name, layer in layers.items():
        if layer is not None:
            of_layer[layer].append(name)
    below = 0
    for part in config.slices:
        assert part.layers is not None  # `is_stacked` has looked
        for layer in range(*part.layers):
            found += [with_layer(name, below) for name in of_layer[min(layer, depth - 1)]]
            below += 1
    return found


def _depth(layers: Mapping[str, int | None]) -> int:
    return max((layer for layer in layers.values() if layer is not None), default=-1) + 1


def _position(config: MergekitConfig, name: str, layer: int | None, n_layers: int) -> Position:
    if layer is None:
        return Position(config.slices[0 if is_before_layers(name) else -1], 0.0)
    below = 0
    for part in config.slices:
        first, end = part.layers or (0, n_layers)
        count, index = end - first, layer - below
        if index < count:
            break
        below += count
    return Position(part, index / (count - 1) if count > 1 else 1.0)


def _check_one_stack(layers: Mapping[str, int | None]) -> None:
    stacks = {name.split(f".{n}.", 1)[0] for name, n in layers.items() if n is not None}
    if len(stacks) > 1:
        raise RecipeError(
            f"the base has several stacks of layers ({', '.join(sorted(stacks)[:4])}), so it is "
            "not clear which one slices and gradients run over; use filters with one number each"
        )
