"""Weighted average of the sources: theta = sum_i w_i theta_i / sum_i w_i.

Source: Wortsman et al. 2022 (2203.05482), model soups, where all weights are equal; Rame et al.
2023 (2306.04488), rewarded soups, where the weights are a preference over the sources' rewards.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from safemerge.errors import RecipeError
from safemerge.methods import task_arithmetic
from safemerge.methods.common.method import State
from safemerge.methods.common.params import Params
from safemerge.methods.common.weighted_sum import beside_base, of_sources


class LinearParams(Params):
    """Without `normalize` the weights are taken as they are, and should sum to 1."""

    normalize: bool = True


def weigh(state: State, weights: Tensor, params: LinearParams) -> Tensor:
    """Coefficients of base and deltas; weights need a positive sum."""
    total = positive_sum(weights, "linear")
    return beside_base(weights / total) if params.normalize else of_sources(weights)


def positive_sum(weights: Tensor, method: str) -> Tensor:
    """Sum of the weights, a 0-D tensor; a RecipeError where it is 0 or less."""
    total = weights.sum()
    if total.item() <= 0.0:
        raise RecipeError(
            f"method {method!r} averages the sources, and the sum of the weights "
            f"{weights.tolist()} is not positive; give weights that are"
        )
    return total


METHOD = replace(
    task_arithmetic.METHOD,
    name="linear",
    params=LinearParams,
    weigh=weigh,
    zero_is_base=False,
    positive_sum=True,
    ignores_base=True,
)
