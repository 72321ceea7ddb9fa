"""LM-Cocktail: the average of all models, each weighted by the softmax of its own likelihood.

Source: Xiao et al. 2311.13534 as paper B uses it, 2406.14563 eq. 3 and its code (methods.md 2.2):

    w_t = softmax_t(L_t / tau),   tau = 1,   theta = sum_t w_t theta_t

with L_t the mean log-likelihood of model t over the safety and the expert's probes, or over the
latter alone, and t over the base and all sources. Since the weights sum to 1, that average is
task arithmetic with the weights of the sources. There is no search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from safemerge.recipe import Recipe
from search.baselines.budget import plain_study
from search.baselines.fitness import Baseline, by_fitness
from search.config import SearchConfig, SpaceConfig
from search.runs.workbench import Workbench


def lm_cocktail(
    config: SearchConfig, weights: dict[str, float], *, temperature: float = 1.0
) -> Baseline:
    """The one recipe of LM-Cocktail, as a run of one trial.

    Args:
        config: of the search.
        weights: `{axis: weight}` of the likelihoods; equal ones stand for the union of probe sets
            of equal size.
        temperature: tau, above 0; paper B's is 1, LM-Cocktail's own 5.
    """
    space = SpaceConfig(places="global", weight=(0.0, 1.0), scale=(1.0, 1.0))
    study = plain_study(config.search, 1, "random")
    # No random draw may stand in for the one recipe.
    study = study.model_copy(update={"failed_frac": 0.0})

    def recipes(bench: Workbench) -> Sequence[Recipe]:
        base, sources = bench.baseline()
        # The fitness is exp(L).
        found = {name: scores["fitness"].value for name, scores in sources.items()}
        powers = {name: value ** (1.0 / temperature) for name, value in found.items()}
        total = math.fsum([base["fitness"].value ** (1.0 / temperature), *powers.values()])
        shares = {name: power / total for name, power in powers.items()}
        return [bench.space.template.model_copy(update={"weights": {"default": shares}})]

    return Baseline(by_fitness(config, "task_arithmetic", space, study, weights), recipes)
