"""DELLA without a sign consensus: drop small entries of every row more often than large ones; add.

Source: 2406.11617, in mergekit's form `della_linear` (methods.md 4.7). Within each row of a delta,
the smallest entry is kept with probability density - epsilon and the largest with density +
epsilon, linear in the rank between (`keep_by_rank`); a vector is one row. The rest is DARE:

    theta = base + scale * sum_i w_i f_i K_i D_i     (divided by sum_i w_i with `normalize`)

Where density - epsilon < 0 or density + epsilon > 1, mergekit refuses; here epsilon is narrowed, so
that a search may vary both, and the mean probability stays the density.
"""

from __future__ import annotations

import torch

from safemerge.methods import dare_linear
from safemerge.methods.common.base import Choice, Method, Span, State
from safemerge.methods.common.draws import bytes_of_masks, keep_by_rank
from safemerge.methods.common.sparse import DENSITY, DropParams


def select(state: State, choice: Choice, params: DropParams) -> State:
    """Draw what is kept.

    Args:
        state: what `dare_linear.prepare` returned.
        choice: `density`, in [0, 1], and `epsilon`, in [0, 0.5], of every source.
        params: `rescale`.

    Returns:
        `deltas`, `keep` (n_sources, *base.shape) in {0, 1}, and `sizes` as of `dare_linear`.
    """
    deltas, densities = state["deltas"], choice.per_source["density"]
    epsilons = choice.per_source["epsilon"]
    keep = torch.empty(deltas.shape, dtype=torch.uint8, device=deltas.device)
    for i, seed in enumerate(state["seeds"].tolist()):
        keep[i] = keep_by_rank(seed, densities[i], epsilons[i], deltas[i])
    return dare_linear.with_sizes({"deltas": deltas, "keep": keep}, choice, params)


METHOD = Method(
    name="della_linear",
    source="2406.11617; methods.md 4.7",
    params=DropParams,
    prepare=dare_linear.prepare,
    select=select,
    weigh=dare_linear.weigh,
    combine=dare_linear.combine,
    entrywise=("deltas", "keep"),
    footprint=bytes_of_masks,
    per_source={"density": DENSITY, "epsilon": Span(default=0.15, low=0.0, high=0.5)},
    prepare_key=dare_linear.METHOD.prepare_key,
    seeded=True,
)
