"""What a test over all methods needs to call each of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file
from torch import Tensor

from safemerge import ModelRef
from safemerge.factors import factorise
from safemerge.io import save_importance
from safemerge.methods import METHODS, STAGES, Method, Selection, Site, get_method
from safemerge.methods.common.importance_order import positions

_FOLDER = TemporaryDirectory()
TENSOR = "model.layers.0.mlp.up_proj.weight"
WEIGHTS = [0.5, 0.3, 0.2]
_WITH_STAGES = [
    *(f"{name}+task_arithmetic" for name, stage in STAGES.items() if stage.before),
    *(f"task_arithmetic+{name}" for name, stage in STAGES.items() if not stage.before),
    "hard_threshold+ties+svc",
    "hard_threshold+resm+lssf",
    "dare_ties+resta",
    "iso_cts+lox",
    "tsvm+svc+lox",
]
TABLE = METHODS | {name: get_method(name) for name in _WITH_STAGES}
"""Every method, and every stage with one: some of a kind of their own."""


def required(method: Method) -> dict[str, object]:
    """Parameters that have no default, at the example that the parameter's field gives.

    Examples name sources as tests do: "a", "b", ...
    """
    fields = method.params.model_fields
    return {
        name: field.examples[0]
        for name, field in fields.items()
        if field.is_required() and field.examples
    }


def n_sources(method: Method) -> int:
    """Three sources, or as many as the method takes at most."""
    return min(3, method.most_sources or 3)


def selection(
    method: Method, n_sources: int, rank_ratio: float | None = None, **numbers: float
) -> Selection:
    """The method's defaults of per-source numbers, or those given, at a rank ratio."""
    values = {
        name: (numbers.get(name, span.default),) * n_sources
        for name, span in method.per_source.items()
    }
    return Selection(rank_ratio, None, values)


def draw(shape: tuple[int, ...], n_sources: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A base and some deltas, from a seed."""
    random = torch.Generator().manual_seed(seed)
    base = torch.randn(shape, generator=random)
    return base, 0.1 * torch.randn((n_sources, *shape), generator=random)


def site(names: str, tensor: str = TENSOR, shape: tuple[int, ...] = ()) -> Site:
    return Site(tensor, tuple(names), factorise, important(names, shape))


def important(names: str, shape: tuple[int, ...]) -> Tensor:
    """Positions (n_sources, *shape), a random order that hangs on the source's name."""
    return torch.stack([positions(_random(name, shape)) for name in names])


def _random(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(ord(name[0])))


def source(checkpoint: Path, method: Method) -> ModelRef:
    """A checkpoint as a source, with an importance file where the method needs one."""
    file = _importance_file(checkpoint) if method.needs_importance else None
    return ModelRef(name=checkpoint.name, path=str(checkpoint), importance=file)


@cache
def _importance_file(checkpoint: Path) -> str:
    tensors = load_file(checkpoint / "model.safetensors")
    path = Path(_FOLDER.name) / f"{checkpoint.parent.name}-{checkpoint.name}.safetensors"
    save_importance(path, {k: important(checkpoint.name, t.shape)[0] for k, t in tensors.items()})
    return str(path)


def merge(
    method: Method,
    base: Tensor,
    deltas: Tensor,
    weights: list[float],
    rank_ratio: float | None = None,
    names: str = "abcdef",
    tensor: str = TENSOR,
    numbers: dict[str, float] | None = None,
    **params: object,
) -> Tensor:
    """prepare, select, weigh and combine as the library runs them.

    Args:
        numbers: per-source numbers, the same for all sources; defaults for the rest.
    """
    parsed = method.parse(required(method) | params)
    part = method.for_role("matrix" if base.dim() == 2 else "vector")
    state = part.prepare(
        base, deltas, parsed, site(names[: len(deltas)], tensor, tuple(base.shape))
    )
    if part.select is not None:
        chosen = selection(method, len(deltas), rank_ratio, **(numbers or {}))
        state = part.select(state, chosen, parsed)
    return part.merged(base, state, torch.tensor(weights), parsed)
