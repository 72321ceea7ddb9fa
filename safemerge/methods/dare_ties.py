"""DARE with a sign consensus: what dare_linear.py keeps, merged as ties.py merges it.

Source: mergekit's `dare_ties` (methods.md 4.5, 4.6). Normalising is off by default there.
"""

from __future__ import annotations

from torch import Tensor

from safemerge.methods import dare_linear
from safemerge.methods.common.base import Method, State
from safemerge.methods.common.consensus import add_consensus, consensus_weights
from safemerge.methods.common.draws import bytes_of_masks, masked
from safemerge.methods.common.sparse import DENSITY, DropParams, quotients


def weigh(state: State, weights: Tensor, params: DropParams) -> Tensor:
    """Coefficients of the kept deltas and of the divisor; weights (n_sources,) are any finite."""
    return consensus_weights(weights, quotients(state["sizes"]), params.scale)


def combine(base: Tensor, state: State, coefficients: Tensor, params: DropParams) -> Tensor:
    """Merge what agrees.

    Args:
        base: any shape.
        state: what `dare_linear.select` returned.
        coefficients: what `weigh` returned.
        params: `normalize`.
    """
    kept = masked(state["deltas"], state["keep"])
    return add_consensus(base, kept, coefficients, params.normalize)


METHOD = Method(
    name="dare_ties",
    source="2311.03099 with 2306.01708; methods.md 4.5, 4.6",
    params=DropParams,
    prepare=dare_linear.prepare,
    select=dare_linear.select,
    in_pieces=dare_linear.in_pieces,
    gather=dare_linear.gather,
    weigh=weigh,
    combine=combine,
    entrywise=("deltas", "keep"),
    footprint=bytes_of_masks,
    per_source={"density": DENSITY},
    prepare_key=dare_linear.METHOD.prepare_key,
    seeded=True,
)
