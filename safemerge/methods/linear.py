"""Weighted average of the sources: theta = sum_i w_i theta_i / sum_i w_i.

This is also Rewarded Soup, where source i was trained for reward i and the weights are a
preference over the rewards, and the plain model soup, where all weights are equal. The base takes
no part: sources are held as base + D_i only so that one state serves the whole linear family.
Source: weight averaging as in mergekit's `linear` (methods.md 4.3).
"""

from __future__ import annotations

from torch import Tensor

from safemerge.errors import RecipeError
from safemerge.methods.common.base import Method, Params, State
from safemerge.methods.common.deltas import (
    SUM_BLOCK,
    add_deltas,
    beside_base,
    bytes_of_deltas,
    keep_deltas,
    keep_piece,
    of_sources,
)


class LinearParams(Params):
    """Parameters of the weighted average.

    Args:
        normalize: divide by the sum of the weights; without it the weights are taken as they are,
            and should sum to 1.
    """

    normalize: bool = True


def weigh(state: State, weights: Tensor, params: LinearParams) -> Tensor:
    """Coefficients of base and deltas.

    Args:
        state: unused.
        weights: (n_sources,); their sum must be positive.
        params: `normalize`.

    Raises:
        RecipeError: where the weights sum to 0 or less.
    """
    total = positive_sum(weights, "linear")
    return beside_base(weights / total) if params.normalize else of_sources(weights)


def positive_sum(weights: Tensor, method: str) -> Tensor:
    """Sum of the weights, a 0-D tensor; 0 or less is refused, as there is nothing to divide by."""
    total = weights.sum()
    if total.item() <= 0.0:
        raise RecipeError(
            f"method {method!r} averages the sources, and the sum of the weights "
            f"{weights.tolist()} is not positive; give weights that are"
        )
    return total


METHOD = Method(
    name="linear",
    source="weight average; methods.md 4.3",
    params=LinearParams,
    prepare=keep_deltas,
    in_pieces=keep_piece,
    weigh=weigh,
    combine=add_deltas,
    entrywise=("deltas",),
    block=SUM_BLOCK,
    footprint=bytes_of_deltas,
    needs_base=False,
    zero_is_base=False,
)
