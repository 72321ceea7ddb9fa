"""DELLA without a sign consensus: DARE that drops small entries more often than large ones.

Source: Deep et al. 2024 (2406.11617), in the form of mergekit's `della_linear`. Within a row the
smallest entry is kept with probability density - epsilon, the largest with density + epsilon,
linear in the rank between (`keep_by_rank`). mergekit refuses an epsilon that leaves [0, 1]; here it
is narrowed, so that a search may vary both.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from safemerge.methods import dare_linear
from safemerge.methods.common.draws import keep_by_rank
from safemerge.methods.common.method import Selection, Span, State
from safemerge.methods.common.sparse import DENSITY, DropParams, with_sizes


def select(state: State, selection: Selection, params: DropParams) -> State:
    """Draw as `dare_linear.select` does, by `density` and `epsilon`."""
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
