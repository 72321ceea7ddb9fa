"""The experts of a mixture as one tensor, however they are stored.

Some checkpoints store each expert's matrices by themselves, others all of a layer as one tensor. In
the second form, which is that of transformers 5 and of mergekit, a threshold or an angle is one of
all experts together. Names are those that transformers gives the live model.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from safemerge.io.compat import load_finite
from safemerge.io.header import TensorInfo
from safemerge.io.reader import Checkpoint

_EXPERT = re.compile(
    r"(.+)\.(?:block_sparse_moe|mlp)\.experts\.(\d+)\."
    r"(w1|w2|w3|gate_proj|up_proj|down_proj)\.weight"
)
_ROUTER = re.compile(r"(.+)\.block_sparse_moe\.(.+)")
_PLACES = {"w1": 0, "gate_proj": 0, "w3": 1, "up_proj": 1, "w2": 0, "down_proj": 0}
_DOWN = ("w2", "down_proj")


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A stored tensor as a part of a fused one."""

    name: str
    expert: int | None = None  # None is the whole tensor under another name
    begin: int = 0  # its rows in the expert's matrix
    end: int = 0

    def of(self, fused: Tensor) -> Tensor:
        """Its values."""
        return fused if self.expert is None else fused[self.expert, self.begin : self.end]


Parts = Mapping[str, tuple[StoredPart, ...]]
"""`{fused name: its stored parts, in order}`."""


def fuse_experts(model: Checkpoint) -> tuple[Checkpoint, Parts]:
    """A view of a mixture of experts with one tensor for all of a layer; other models as they are.

    Layers whose experts are not all there, or differ in shape, stay as they are.
    """
    grouped: dict[str, dict[tuple[int, int], str]] = defaultdict(dict)
    infos = dict(model.tensors)
    parts: dict[str, tuple[StoredPart, ...]] = {}
    for name in model.tensors:
        expert, router = _EXPERT.fullmatch(name), _ROUTER.fullmatch(name)
        if expert is not None:
            kind = "down_proj" if expert[3] in _DOWN else "gate_up_proj"
            place = int(expert[2]), _PLACES[expert[3]]
            grouped[f"{expert[1]}.mlp.experts.{kind}"][place] = name
        elif router is not None:
            parts[f"{router[1]}.mlp.{router[2]}"] = (StoredPart(name),)
    for target, named in grouped.items():
        fused = _parts_of(model, target, named)
        if fused is not None:
            parts[target] = fused
    if not grouped:
        return model, {}
    for target, stored in parts.items():
        info = model.tensors[stored[0].name]
        rows = max(part.end for part in stored)
        count = 1 + max(part.expert or 0 for part in stored)
        whole = stored[0].expert is None
        shape = info.shape if whole else (count, rows, info.shape[1])
        for part in stored:
            del infos[part.name]
        infos[target] = replace(info, name=target, shape=shape)
    made = {target: _maker(model, infos[target], stored) for target, stored in parts.items()}
    return model.view(infos, made), parts


def _parts_of(
    model: Checkpoint, target: str, named: Mapping[tuple[int, int], str]
) -> tuple[StoredPart, ...] | None:
    halves = 1 if target.endswith("down_proj") else 2
    count = 1 + max(expert for expert, _ in named)
    shapes = {model.tensors[name].shape for name in named.values()}
    if len(named) != halves * count or len(shapes) > 1 or len(next(iter(shapes))) != 2:
        return None
    rows = next(iter(shapes))[0]
    return tuple(
        StoredPart(name, expert, half * rows, (half + 1) * rows)
        for (expert, half), name in sorted(named.items())
    )


def _maker(
    model: Checkpoint, info: TensorInfo, stored: tuple[StoredPart, ...]
) -> Callable[[], Tensor]:
    def fused() -> Tensor:
        if stored[0].expert is None:
            return load_finite(model, stored[0].name)
        whole = torch.empty(info.shape, dtype=info.dtype)
        for part in stored:
            part.of(whole).copy_(load_finite(model, part.name))
        return whole

    return fused
