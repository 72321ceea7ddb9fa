"""DELLA without a sign consensus: drop small entries of every row more often than large ones; add.

Source: Deep et al. 2024 (2406.11617), in the form of mergekit's `della_linear`. Within each row of
a delta, the smallest entry is kept with probability density - epsilon and the largest with
density + epsilon, linear in the rank between (`keep_by_rank`); a vector is one row. The rest is
DARE:

    theta = base + scale * sum_i w_i f_i K_i D_i     (divided by sum_i w_i with `normalize`)

Where density - epsilon < 0 or density + epsilon > 1, mergekit refuses; here epsilon is narrowed, so
that a search may vary both, and the mean probability stays the density.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from safemerge.methods import dare_linear
from safemerge.methods.common.draws import keep_by_rank
from safemerge.methods.common.method import Selection, Span, State
from safemerge.methods.common.sparse import DENSITY, DropParams, with_sizes


def select(state: State, selection: Selection, params: DropParams) -> State:
    """Draw what is kept.

    Args:
        selection: `density`, in [0, 1], and `epsilon`, in [0, 0.5], of every source.

    Returns:
        `deltas`; `keep` = K (n_sources, *base.shape), uint8; `sizes` (2, n_sources).
    """
    deltas, densities = state["deltas"], selection.per_source["density"]
    epsilons = selection.per_source["epsilon"]
    keep = torch.empty(deltas.shape, dtype=torch.uint8, device=deltas.device)
    for i, seed in enumerate(state["seeds"].tolist()):
        keep[i] = keep_by_rank(seed, densities[i], epsilons[i], deltas[i])
    return with_sizes({"deltas": deltas, "keep": keep}, params, densities)


METHOD = replace(
    dare_linear.METHOD,
    name="della_linear",
    select=select,
    piecewise=False,
    sums=None,
    per_source={"density": DENSITY, "epsilon": Span(default=0.15, low=0.0, high=0.5)},
)
