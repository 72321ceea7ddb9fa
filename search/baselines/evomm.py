"""EvoMM: CMA-ES over every model's weight and density at every layer.

The evolutionary model merging of Hammoud et al. 2024 (2406.14563), appendix B and code. What
differs from it is in docs/search.md#baselines.
"""

from __future__ import annotations

from collections.abc import Sequence

from safemerge.methods import get_method
from safemerge.recipe import Recipe
from search.baselines.fitness import BaselineRun, by_fitness, plain_study
from search.config import NumberConfig, SearchConfig, SpaceConfig
from search.runs.workbench import Workbench


def evomm(config: SearchConfig, method: str, weights: dict[str, float], trials: int) -> BaselineRun:
    """EvoMM over `ties`, `dare_ties` or `slerp`, the last of a search of two sources."""
    # Only the ratio of SLERP's weights counts.
    top = 1.0 if method == "slerp" else max(1.0, config.space.weight[1])
    densities = {"density": NumberConfig(range=(0.0, 1.0), places="layers")}
    space = SpaceConfig(
        places="layers",
        weight=(0.0, top),
        scale=(1.0, 1.0),
        per_source=densities if get_method(method).per_source else {},
    )
    study = plain_study(config.search, trials, "cmaes")
    return BaselineRun(by_fitness(config, method, space, study, weights), _start)


def _start(bench: Workbench) -> Sequence[Recipe]:
    """The mean that CMA-ES begins with: equal weights of sum 1 and densities of 1."""
    names = [source.name for source in bench.space.template.sources]
    numbers = get_method(bench.space.template.method).per_source
    update = {
        "weights": {"default": dict.fromkeys(names, 1.0 / len(names))},
        "per_source": {number: {"default": dict.fromkeys(names, 1.0)} for number in numbers},
    }
    return [bench.space.template.model_copy(update=update)]
