"""Grid search: one density and one weight for all models, or one t of SLERP; the best by fitness.

Hammoud et al. 2024 (2406.14563), appendix B, chosen by search probes in place of their test sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from safemerge.methods import get_method
from safemerge.recipe import Recipe
from search.baselines.fitness import BaselineRun, by_fitness, plain_study
from search.config import NumberConfig, SearchConfig, SpaceConfig
from search.runs.workbench import Workbench

DENSITIES = (0.25, 0.5, 1.0)
WEIGHTS_OF_TWO = (0.25, 0.5, 1.0)
WEIGHTS_OF_MORE = (0.1, 0.25, 0.33, 0.5, 1.0)
SHARES = tuple(round(0.1 * step, 1) for step in range(1, 11))  # t of SLERP


def grid(config: SearchConfig, method: str, weights: dict[str, float]) -> BaselineRun:
    """Every point of the grid of one method: 9 for two sources, 15 for more, 10 of SLERP."""
    thinned = bool(get_method(method).per_source)
    space = SpaceConfig(
        places="global",
        weight=(0.0, 1.0),
        scale=(1.0, 1.0),
        per_source={"density": NumberConfig(range=(0.0, 1.0))} if thinned else {},
    )
    names = [source.name for source in config.models.sources]
    points = _thinned(names) if thinned else _between(names)
    # No random draw may stand in for a point that fails.
    study = plain_study(config.search, len(points), "random", failed_frac=0.0)

    def recipes(bench: Workbench) -> Sequence[Recipe]:
        return [bench.space.template.model_copy(update=point) for point in points]

    return BaselineRun(by_fitness(config, method, space, study, weights), recipes)


def _thinned(names: Sequence[str]) -> list[dict[str, object]]:
    levels = WEIGHTS_OF_TWO if len(names) <= 2 else WEIGHTS_OF_MORE
    return [
        {
            "weights": {"default": dict.fromkeys(names, weight)},
            "per_source": {"density": {"default": dict.fromkeys(names, density)}},
        }
        for density, weight in product(DENSITIES, levels)
    ]


def _between(names: Sequence[str]) -> list[dict[str, object]]:
    first, second = names
    return [{"weights": {"default": {first: 1.0 - t, second: t}}} for t in SHARES]
