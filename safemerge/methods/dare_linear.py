"""DARE: drop entries of every delta at random, rescale the rest, add.

Source: Yu et al. 2311.03099; mergekit's `dare_linear` (methods.md 4.6). With K_i drawn entry by
entry, 1 with probability `density`, and f_i the rescaling (1 / density in the original):

    theta = base + scale * sum_i w_i f_i K_i D_i     (divided by sum_i w_i with `normalize`)

Draws hang on the seed and on the names of tensor and source, so that the same recipe is the same
model, and a search sees the same mask in every trial.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safemerge.methods.common.base import Choice, Method, Site, State
from safemerge.methods.common.deltas import add_deltas
from safemerge.methods.common.draws import bytes_of_masks, keep_evenly, masked, probability
from safemerge.methods.common.sparse import DENSITY, DropParams, l1_sizes, quotients, sum_weights


def prepare(base: Tensor, deltas: Tensor, params: DropParams, site: Site) -> State:
    """Keep the deltas, and a seed for each.

    The draws are made in `select`: they cost half a nanosecond an entry there, and kept here they
    would take half the memory of the deltas.

    Args:
        base: unused.
        deltas: (n_sources, *base.shape), float32.
        params: `seed`.
        site: names of tensor and sources.
    """
    seeds = [site.seed(params.seed, source) for source in site.sources]
    return {"deltas": deltas, "seeds": torch.tensor(seeds)}


def select(state: State, choice: Choice, params: DropParams) -> State:
    """Draw what is kept.

    Args:
        state: what `prepare` returned.
        choice: `density` of every source, in [0, 1].
        params: `rescale`.

    Returns:
        `deltas`, `keep` (n_sources, *base.shape) in {0, 1}, and `sizes`; see `with_sizes`.
    """
    deltas, seeds = state["deltas"], state["seeds"].tolist()
    return with_sizes(_drawn(deltas, 0, seeds, choice), choice, params)


def in_pieces(deltas: Tensor, begin: int, choice: Choice, params: DropParams, site: Site) -> State:
    """`select` of consecutive entries; see `Method.in_pieces`."""
    seeds = [site.seed(params.seed, source) for source in site.sources]
    drawn = _drawn(deltas, begin, seeds, choice)
    return drawn if params.rescale == "l1" else with_sizes(drawn, choice, params)


def _drawn(deltas: Tensor, begin: int, seeds: list[int], choice: Choice) -> State:
    keep = torch.empty(deltas.shape, dtype=torch.uint8, device=deltas.device)
    for i, density in enumerate(choice.per_source["density"]):
        keep[i] = keep_evenly(seeds[i], density, deltas[i], begin)
    return {"deltas": deltas, "keep": keep}


def with_sizes(drawn: State, choice: Choice, params: DropParams) -> State:
    """The state of `deltas` of which the entries in `keep` are kept, with their rescaling.

    Args:
        drawn: `deltas` and `keep`.
        choice: `density` of every source.
        params: `rescale`.

    Returns:
        What came in, and `sizes` (2, n_sources), float64: of each delta and of what is kept of it.
        What is kept is multiplied by their quotient.
    """
    sizes = torch.ones(2, len(drawn["deltas"]), dtype=torch.float64)
    if params.rescale == "l1":
        sizes = gather(drawn["deltas"], drawn, params)["sizes"]
    elif params.rescale == "inverse_density":
        sizes[1] = sizes.new_tensor([probability(d) for d in choice.per_source["density"]])
    return {**drawn, "sizes": sizes}


def gather(base: Tensor, state: State, params: DropParams) -> State:
    """`sizes` as L1 norms, where that is how to rescale."""
    if params.rescale != "l1":
        return {}
    keep = state["keep"].reshape(len(state["keep"]), -1)
    return {"sizes": l1_sizes(state["deltas"], lambda size, part: masked(size, keep[:, part]))}


def weigh(state: State, weights: Tensor, params: DropParams) -> Tensor:
    """Coefficients of base and kept deltas; weights (n_sources,) are any finite."""
    return sum_weights(weights, quotients(state["sizes"]), params.scale, params.normalize)


def combine(base: Tensor, state: State, coefficients: Tensor, params: DropParams) -> Tensor:
    """Add what is kept.

    Args:
        base: any shape.
        state: what `select` returned.
        coefficients: what `weigh` returned.
        params: unused.
    """
    kept = masked(state["deltas"], state["keep"])
    return add_deltas(base, {"deltas": kept}, coefficients, params)


METHOD = Method(
    name="dare_linear",
    source="2311.03099; methods.md 4.6",
    params=DropParams,
    prepare=prepare,
    select=select,
    in_pieces=in_pieces,
    gather=gather,
    weigh=weigh,
    combine=combine,
    entrywise=("deltas", "keep"),
    footprint=bytes_of_masks,
    per_source={"density": DENSITY},
    prepare_key=lambda params: (params.seed,),
    seeded=True,
)
