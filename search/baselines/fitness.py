"""What the baselines of Hammoud et al. have in common: one fitness to go by, and no limits.

Source: Hammoud et al. 2024 (2406.14563), eq. 4 and 5:

    L_merge = L_safety + alpha L_expert,   alpha = 0.3

with L the mean log-likelihood of an answer's tokens, averaged over the probes: harmless ones for
safety, domain ones for the expert. Without the safety term L_expert is left. The objective
`fitness` is exp of it over the sum of the weights: in [0, 1], and in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safemerge.recipe import Recipe
from search.baselines.ablations import SAFETY
from search.config import MergeConfig, ObjectiveConfig, SearchConfig, SpaceConfig, StudyConfig
from search.runs.workbench import Workbench

ALPHA = 0.3  # the paper's, chosen for accuracy
EXPERT = "domain"


@dataclass(frozen=True, slots=True)
class BaselineRun:
    """A run to compare a search with."""

    config: SearchConfig
    # given its open workbench, the recipes that it begins with; None leaves it to the sampler
    first: Callable[[Workbench], Sequence[Recipe]] | None = None


def fitness_weights(safety: bool, alpha: float = ALPHA) -> dict[str, float]:
    """`{axis: weight}` of the fitness, with the safety term or without it; `alpha` is above 0."""
    return {SAFETY: 1.0, EXPERT: alpha} if safety else {EXPERT: 1.0}


def by_fitness(
    config: SearchConfig,
    method: str,
    space: SpaceConfig,
    study: StudyConfig,
    weights: dict[str, float],
) -> SearchConfig:
    """The same models and probes, searched for the fitness alone.

    Under TIES the sum of what agrees is not divided by the weights, as in the paper's code, so that
    their size matters.
    """
    merge = MergeConfig(
        method=method,
        params={"normalize": False} if method == "ties" else {},
        dtype=config.merge.dtype,
        tokenizer=config.merge.tokenizer,
    )
    return config.model_copy(
        update={
            "merge": merge,
            "space": space,
            "objectives": {"fitness": ObjectiveConfig(weights=weights)},
            "limits": {},
            "search": study,
        }
    )
