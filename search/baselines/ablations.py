"""The same search with one thing removed: random search at equal budget, and no safety term."""

from __future__ import annotations

from search.baselines.fitness import SAFETY, plain_study
from search.config import SearchConfig


def random_search(config: SearchConfig, evaluations: int) -> SearchConfig:
    return config.model_copy(update={"search": plain_study(config.search, evaluations, "random")})


def without_safety(config: SearchConfig) -> SearchConfig | None:
    """The same search without objective and limit on harmlessness, and with a start of its own.

    None where harmlessness is the only objective or not measured at all.
    """
    objectives = {name: value for name, value in config.objectives.items() if name != SAFETY}
    limits = {name: value for name, value in config.limits.items() if name != SAFETY}
    if not objectives or (objectives == config.objectives and limits == config.limits):
        return None
    target = {name: value for name, value in config.search.stop.target.items() if name != SAFETY}
    stop = config.search.stop.model_copy(update={"target": target})
    # A run to start from was itself fitted to safety.
    search = config.search.model_copy(update={"stop": stop, "start_from": None})
    return config.model_copy(update={"objectives": objectives, "limits": limits, "search": search})
