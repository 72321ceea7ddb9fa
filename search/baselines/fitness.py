"""What the baselines of Hammoud et al. have in common: one fitness to go by, and no limits.

The fitness is that of Hammoud et al. 2024 (2406.14563), eq. 4 and 5: docs/search.md#baselines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from safemerge.recipe import Recipe
from search.config import (
    MergeConfig,
    ObjectiveConfig,
    SearchConfig,
    SpaceConfig,
    StopConfig,
    StudyConfig,
    WarmStartConfig,
)
from search.runs.workbench import Workbench

SAFETY, EXPERT = "harmless", "domain"
ALPHA = 0.3  # the paper's, chosen for accuracy


@dataclass(frozen=True, slots=True)
class BaselineRun:
    """A run to compare a search with."""

    config: SearchConfig
    # given its open workbench, the recipes that it begins with; None leaves it to the sampler
    first: Callable[[Workbench], Sequence[Recipe]] | None = None


def plain_study(study: StudyConfig, trials: int, sampler: str, **changes: Any) -> StudyConfig:
    """The same storage and workers, with nothing to start from, no stop rule, and `changes`."""
    return study.model_copy(
        update={
            "sampler": sampler,
            "sampler_options": {},
            "start_from": None,
            "stop": StopConfig(),
            "trials": trials,
            "warm_start": WarmStartConfig(steps=0),
            **changes,
        }
    )


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
    """The same models and probes, searched for the fitness alone."""
    # In the paper's code the sum is not divided by the weights that agree.
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
            "probes": config.probes.model_copy(update={"retention": "off"}),
            "search": study,
        }
    )
