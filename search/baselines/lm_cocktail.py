"""LM-Cocktail: the average of all models, each weighted by the softmax of its own likelihood.

Xiao et al. 2023 (2311.13534) as Hammoud et al. 2024 (2406.14563) use it, eq. 3 and code:

    w_t = softmax_t(L_t / tau),   tau = 1,   theta = sum_t w_t theta_t

with L_t the mean log-likelihood of model t on the probes, and t over the base and all sources. The
weights sum to 1, so this is task arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from safemerge.recipe import Recipe
from search.baselines.fitness import BaselineRun, by_fitness, plain_study
from search.config import SearchConfig, SpaceConfig
from search.runs.workbench import Workbench


def lm_cocktail(
    config: SearchConfig, weights: dict[str, float], *, temperature: float = 1.0
) -> BaselineRun:
    """The one recipe, as a run of one trial; `temperature` is tau, 5 in Xiao et al."""
    space = SpaceConfig(places="global", weight=(0.0, 1.0), scale=(1.0, 1.0))
    # No random draw may stand in for the one recipe.
    study = plain_study(config.search, 1, "random", failed_frac=0.0)

    def recipes(bench: Workbench) -> Sequence[Recipe]:
        baseline = bench.baseline()
        power = 1.0 / temperature  # of the fitness, which is exp(L)
        powers = {name: row["fitness"].value ** power for name, row in baseline.sources.items()}
        total = math.fsum([baseline.base["fitness"].value ** power, *powers.values()])
        shares = {name: power / total for name, power in powers.items()}
        return [bench.space.template.model_copy(update={"weights": {"default": shares}})]

    return BaselineRun(by_fitness(config, "task_arithmetic", space, study, weights), recipes)
