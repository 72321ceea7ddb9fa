"""Streamed merges against plain lines, which call a method's functions in a row, in memory."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from examples import TABLE, WEIGHTS, n_sources, required, source
from safetensors.torch import load_file
from torch import Tensor

from safemerge import ModelRef, Recipe, merge
from safemerge.factors import factorise
from safemerge.methods import Site
from safemerge.methods.common.method import Peers
from safemerge.names import group_of, place_of, role_of


def recipe(goldens: Path, name: str) -> Recipe:
    method = TABLE[name]
    sources = "abc"[: n_sources(method)]
    weights = dict(zip(sources, WEIGHTS, strict=False))
    layer = {source: 1.5 - weight for source, weight in weights.items()}
    fields: dict[str, Any] = {
        "base": ModelRef(name="base", path=str(goldens / "models/base")),
        "sources": [source(goldens / "models" / s, method) for s in sources],
        "method": name,
        "params": required(method),
        "places": "layers",
        "weights": {"default": weights, "layer.1": layer},
        "rank_ratio": {"default": 0.5, "layer.1": 0.3} if method.spectral else {},
    }
    return Recipe.model_validate(fields)


def plain_merge(one: Recipe) -> dict[str, Tensor]:
    """Every tensor of the base merged without pieces, blocks or threads."""
    method, names = TABLE[one.method], tuple(s.name for s in one.sources)
    params = method.parse(one.params)
    base = load_file(Path(one.base.path) / "model.safetensors")
    models = [load_file(Path(s.path) / "model.safetensors") for s in one.sources]
    orders = [load_file(s.importance) for s in one.sources if s.importance is not None]
    parts, states = {}, {}
    known = defaultdict(list)
    for name, tensor in base.items():
        part = parts[name] = method.for_role(role_of(name, tuple(tensor.shape)))
        deltas = torch.stack([model[name].float() - tensor.float() for model in models])
        order = torch.stack([o[name] for o in orders]) if part.needs_importance else None
        states[name] = part.prepare(tensor, deltas, params, Site(name, names, factorise, order))
        if "density" in states[name]:
            known[place_of(name).module].append(states[name])
    merged = {}
    for name, tensor in base.items():
        part, state, group = parts[name], states[name], group_of(name, one.places, 2)
        if part.select is not None:
            peers = known[place_of(name).module]
            density = max((s["density"].item() for s in peers), default=None)
            norm = sum(s["norm"].item() for s in peers) / len(peers) if peers else None
            chosen = method.selection(one, group, Peers(density, norm))
            state = part.select(state, chosen, params)
        weights = torch.tensor(one.weights_at(group))
        merged[name] = part.merged(tensor, state, weights, params).to(tensor.dtype)
    return merged


@pytest.mark.parametrize("method", TABLE)
def test_a_merge_is_what_plain_lines_give(method: str, goldens: Path, tmp_path: Path) -> None:
    one = recipe(goldens, method)
    merge(one, tmp_path / "out")
    written = load_file(tmp_path / "out/model.safetensors")
    expected = plain_merge(one)
    assert written.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(written[name], tensor, rtol=1e-6, atol=1e-7)
