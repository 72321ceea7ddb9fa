"""How many singular triplets a spectral method keeps, and how many it computes at all."""

from __future__ import annotations

import math
from collections.abc import Callable

from pydantic import Field
from torch import Tensor

from safemerge.errors import RecipeError
from safemerge.methods.common.params import Scaled
from safemerge.recipe import Recipe


def kept_rank(rank: int, n_sources: int, rank_ratio: float | None) -> int:
    """How many triplets of each source are kept, in [1, rank], of a matrix of rank min(out, in).

    `rank_ratio` is a share of it in (0, 1]; None is TSV-M's own floor(rank / n_sources).
    """
    if rank == 0:
        return 0
    # 1e-9: a ratio of 1/3 of rank 96 is 32, whatever the last bit of 1/3 says.
    wanted = rank // n_sources if rank_ratio is None else math.floor(rank_ratio * rank + 1e-9)
    return min(max(wanted, 1), rank)


def bytes_held(
    per_source: int, whole: int, squares: int = 0
) -> Callable[[tuple[int, ...], int], int]:
    """A footprint in tensors of float32, from benchmarks/peak_memory.py, freed blocks included.

    Args:
        per_source: tensors of the delta's shape for each source, its delta included.
        whole: tensors of that shape beside, the result included.
        squares: matrices (r, r), r the shorter side, with which decompositions work.
    """

    def footprint(shape: tuple[int, ...], n_sources: int) -> int:
        square = min(shape, default=0) ** 2
        return 4 * (math.prod(shape) * (per_source * n_sources + whole) + squares * square)

    return footprint


class RankLimited(Scaled):
    """Of methods that keep leading triplets, beside `scale`.

    Args:
        rank_limit: share of the rank for which triplets are computed; no rank goes above it. Up to
            an eighth it saves the full SVD of every large delta.
    """

    rank_limit: float = Field(default=1.0, gt=0.0, le=1.0)

    def check_against(self, recipe: Recipe) -> None:
        super().check_against(recipe)
        for group, ratio in recipe.rank_ratio.items():
            if ratio > self.rank_limit:
                raise RecipeError(
                    f"method {recipe.method!r}: rank_ratio[{group!r}] is {ratio:g}, above "
                    f"rank_limit, which is {self.rank_limit:g}; lower the one or raise the other"
                )

    def computed_rank(self, delta: Tensor) -> int | None:
        """Triplets to compute of a delta (out, in); None is all."""
        return None if self.rank_limit == 1.0 else kept_rank(min(delta.shape), 1, self.rank_limit)
