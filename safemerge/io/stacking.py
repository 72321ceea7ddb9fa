"""A model of another depth: layers of several models, in any order, read as one model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from safemerge.errors import CheckpointError
from safemerge.io.compat import load_finite
from safemerge.io.header import TensorInfo
from safemerge.io.reader import Checkpoint
from safemerge.names import depth_of, is_before_layers, with_layer

_DEPTH = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")

Slices = Sequence[Mapping[int, tuple[int, int]]]
"""Slices in order: `{index of a model: its first layer, and one past its last}`."""


def stacked(models: Sequence[Checkpoint], slices: Slices) -> list[Checkpoint]:
    """Views of the models, base first, with the layers of the slices.

    A model that a slice leaves out has there the layers of the base, else of the first one in it.
    What lies before the layers comes from the first slice, and what lies behind from the last.

    Raises:
        CheckpointError: a slice beyond a model's last layer, tensors of other shapes, a model with
            several stacks.
    """
    depths = [_depth(model) for model in models]
    for number, part in enumerate(slices):
        for index, (_, end) in part.items():
            if end > depths[index]:
                raise CheckpointError(
                    f"slices[{number}] takes layers up to {end} of {models[index].folder}, which "
                    f"has {depths[index]}; end it there"
                )
    for model in models[1:]:
        _check_shapes(models[0], model)
    return [_view(models, index, slices) for index in range(len(models))]


def _depth(model: Checkpoint) -> int:
    layers = {name: n for name in model.tensors if (n := depth_of(name)) is not None}
    stacks = {name.split(f".{n}.", 1)[0] for name, n in layers.items()}
    if len(stacks) != 1:
        found = ", ".join(sorted(stacks)[:4]) or "none"
        raise CheckpointError(
            f"{model.folder} has not one stack of layers ({found}), so it is not clear which "
            "layers are meant; give whole models"
        )
    return 1 + max(layers.values())


def _view(models: Sequence[Checkpoint], index: int, slices: Slices) -> Checkpoint:
    infos: dict[str, TensorInfo] = {}
    made: dict[str, Callable[[], Tensor]] = {}

    def take(model: Checkpoint, name: str, target: str) -> None:
        infos[target] = replace(model.tensors[name], name=target)
        made[target] = lambda: load_finite(model, name)

    depth = 0
    for number, part in enumerate(slices):
        owner = next(i for i in (index, 0, *part) if i in part)
        model, (first, end) = models[owner], part[owner]
        for name in model.tensors:
            layer = depth_of(name)
            if layer is not None and first <= layer < end:
                take(model, name, with_layer(name, depth + layer - first))
            elif layer is None:
                before = is_before_layers(name)
                if (before and number == 0) or (not before and number == len(slices) - 1):
                    take(model, name, name)
        depth += end - first
    return models[index].view(infos, made, **_deeper(models, slices, depth))


def _deeper(models: Sequence[Checkpoint], slices: Slices, depth: int) -> dict[str, Any]:
    """Keys of config.json that say how many layers there are, and of what kind each is."""
    sections = [_section(model) for model in models]
    key = next((key for key in _DEPTH if key in sections[0]), None)
    if key is None:
        raise CheckpointError(
            f"config.json of {models[0].folder} does not say how many layers there are "
            f"({', '.join(_DEPTH)}); models of this kind cannot be stacked"
        )
    changed: dict[str, Any] = {key: depth}
    for name, value in sections[0].items():  # such as layer_types
        if isinstance(value, list) and len(value) == sections[0][key] and "layer" in name:
            changed[name] = [
                sections[owner].get(name, value)[layer]
                for part in slices
                for owner in [next(i for i in (0, *part) if i in part)]
                for layer in range(*part[owner])
            ]
    if sections[0] is models[0].config:
        return changed
    return {"text_config": {**sections[0], **changed}}


def _section(model: Checkpoint) -> Mapping[str, Any]:
    """The part of a config that describes the layers."""
    inner = model.config.get("text_config")
    nested = isinstance(inner, dict) and any(key in inner for key in _DEPTH)
    return inner if nested and isinstance(inner, dict) else model.config


def _check_shapes(base: Checkpoint, model: Checkpoint) -> None:
    """Refuse a model whose tensors have other shapes, in the layers that both have."""
    for name, info in base.tensors.items():
        theirs = model.tensors.get(name)
        if theirs is None and depth_of(name) is not None:
            continue
        if theirs is None or theirs.shape != info.shape:
            got = "missing" if theirs is None else list(theirs.shape)
            raise CheckpointError(
                f"{name} is {list(info.shape)} in {base.folder} and {got} in {model.folder}; only "
                "layers of the same widths can be stacked"
            )
