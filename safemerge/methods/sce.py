"""SCE: select entries where sources differ, weight sources by what they have there, elect signs.

Source: FuseChat, Wan et al. 2024 (2408.07990), in mergekit's form. Of the entries whose variance
over the deltas is not 0, those with the `density` largest variances are selected (S); then

    e_i   = |S D_i|^2 / sum_j |S D_j|^2          m = sign(sum_i w_i S D_i), as in ties.py
    theta = base + scale * sum_i e_i w_i S D_i / sum_i e_i, both over the i that agree with m

Weights scale the deltas; all 1, and one density, is the method itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from safemerge.methods.common.blocks import blocks
from safemerge.methods.common.method import Method, Selection, Site, State
from safemerge.methods.common.params import Scaled
from safemerge.methods.common.sparse import DENSITY
from safemerge.methods.common.threshold import magnitude_at
from safemerge.methods.common.weighted_sum import bytes_of_deltas
from safemerge.methods.ties import elect

_LEAST_SQUARES = 1e-6  # mergekit's guard on sum_i mean(D_i^2): below it all sources weigh the same
_LEAST_DIVISOR = 1e-6  # mergekit's


def prepare(base: Tensor, deltas: Tensor, params: Scaled, site: Site) -> State:
    """Keep the deltas, and their `variance` over the sources, (1, *base.shape), float32."""
    return {"deltas": deltas, "variance": _variance(deltas)}


def entries(base: Tensor, deltas: Tensor, state: State, site: Site) -> State:
    return {"deltas": deltas, "variance": _variance(deltas)}


def _variance(deltas: Tensor) -> Tensor:
    variance = torch.empty_like(deltas[0])
    flat, into = deltas.reshape(len(deltas), -1), variance.view(-1)
    for part in blocks(variance.numel(), deltas.device):
        away = flat[:, part] - flat[:, part].mean(dim=0)
        torch.mean(away.square_(), dim=0, out=into[part])
    return variance[None]


def select(state: State, selection: Selection, params: Scaled) -> State:
    """The state with `least`, the variances from which on entries are selected by `density`, and
    `share` = e, each (n_sources,).
    """
    deltas, variance = state["deltas"], state["variance"]
    nonzero = int(torch.count_nonzero(variance))
    densities = selection.per_source["density"]
    least_of = {density: _least(variance, nonzero, density) for density in set(densities)}
    least = torch.tensor([least_of[density] for density in densities])
    flat, spread = deltas.reshape(len(deltas), -1), variance.reshape(1, -1)
    squares = torch.zeros(len(deltas), dtype=torch.float64)
    for entries in blocks(spread.shape[1], spread.device):
        selected = _selected(flat[:, entries], spread[:, entries], least)
        squares += selected.square_().sum(dim=1).cpu()
    squares /= max(spread.shape[1], 1)
    total = squares.sum()
    equal = torch.full_like(squares, 1.0 / len(squares))
    share = squares / total if total >= _LEAST_SQUARES else equal
    return {**state, "least": least, "share": share.float()}


def _least(variance: Tensor, nonzero: int, density: float) -> float:
    if density >= 1.0:
        return -math.inf
    count = int(nonzero * density)
    return magnitude_at(variance, [variance.numel() - count])[0] if count else math.inf


def _selected(deltas: Tensor, variance: Tensor, least: Tensor) -> Tensor:
    """S D: deltas (n_sources, ...) where the variance (1, ...) is at least (n_sources,), else 0."""
    bound = least.to(variance).reshape(-1, *[1] * (variance.dim() - 1))
    return deltas * (variance >= bound).view(torch.uint8).to(deltas.dtype)


def combine(base: Tensor, state: State, weights: Tensor, params: Scaled) -> Tensor:
    m, agreeing = elect(_selected(state["deltas"], state["variance"], state["least"]), weights)
    e = state["share"].to(weights)
    divisor = torch.tensordot(e, agreeing.sign(), dims=1).clamp_min(_LEAST_DIVISOR)
    merged = m * torch.tensordot(params.scale * e, agreeing, dims=1) / divisor
    result: Tensor = base.float() + merged
    return result


METHOD = Method(
    name="sce",
    params=Scaled,
    prepare=prepare,
    select=select,
    combine=combine,
    entrywise=("deltas", "variance"),
    entries=entries,
    footprint=lambda shape, n_sources: bytes_of_deltas(shape, n_sources + 1),
    per_source={"density": DENSITY},
)
