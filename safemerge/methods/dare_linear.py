"""DARE: drop entries of every delta at random, rescale the rest, add.

Source: Yu et al. 2023 (2311.03099), in the form of mergekit's `dare_linear`. With K_i drawn entry
by entry, 1 with probability `density`, and f_i the rescaling (1 / density in the original):

    theta = base + scale * sum_i w_i f_i K_i D_i     (divided by sum_i w_i with `normalize`)
"""

from __future__ import annotations

import torch
from torch import Tensor

from safemerge.methods.common.draws import bytes_of_masks, keep_evenly
from safemerge.methods.common.method import Method, Selection, Site, State
from safemerge.methods.common.sparse import DENSITY, DropParams, add_kept, weigh, with_sizes


def prepare(base: Tensor, deltas: Tensor, params: DropParams, site: Site) -> State:
    """The `deltas`, and of each the seed of its mask, `seeds` (n_sources,), and where it `begin`s.

    Masks would take more memory.
    """
    seeds = [site.seed(params.seed, source) for source in site.sources]
    return {"deltas": deltas, "seeds": torch.tensor(seeds), "begin": torch.tensor(site.begin)}


def select(state: State, selection: Selection, params: DropParams) -> State:
    """Draw what is kept by `density`: `deltas`, `keep` = K (n_sources, *base.shape) in uint8, and
    `sizes` (2, n_sources); `seeds` and `densities` (n_sources,) draw it again.
    """
    densities = selection.per_source["density"]
    drawn_by = {"seeds": state["seeds"], "densities": torch.tensor(densities, dtype=torch.float64)}
    keep = draw(state["deltas"], drawn_by, int(state["begin"]))
    return with_sizes({**drawn_by, "deltas": state["deltas"], "keep": keep}, params, densities)


def draw(deltas: Tensor, state: State, begin: int) -> Tensor:
    """K (n_sources, ...) in uint8, by the `seeds` and `densities` of the state."""
    keep = torch.empty(deltas.shape, dtype=torch.uint8, device=deltas.device)
    by_source = zip(state["seeds"].tolist(), state["densities"].tolist(), strict=True)
    for i, (seed, density) in enumerate(by_source):
        keep[i] = keep_evenly(seed, density, deltas[i], begin)
    return keep


def entries(base: Tensor, deltas: Tensor, state: State, site: Site) -> State:
    return {"deltas": deltas, "keep": draw(deltas, state, site.begin)}


METHOD = Method(
    name="dare_linear",
    params=DropParams,
    prepare=prepare,
    select=select,
    piecewise=True,
    sums=lambda params: ("sizes",) if params.rescale == "l1" else (),
    weigh=weigh,
    combine=add_kept,
    entrywise=("deltas", "keep"),
    entries=entries,
    footprint=bytes_of_masks,
    per_source={"density": DENSITY},
    prepare_key=lambda params: (params.seed,),
    seeded=True,
)
