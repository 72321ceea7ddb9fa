"""The two models that SLERP merges, by their scores on search probes; see docs/search.md."""

from __future__ import annotations

from safemerge.score import Scores
from search.baselines.fitness import EXPERT, SAFETY
from search.config import SearchConfig, SourceConfig
from search.results.run import Run


def two_models(config: SearchConfig, run: Run) -> SearchConfig:
    """The search over two models: the safest of the others, and the best on the domain."""
    name = "the_base"
    while name in run.baseline.sources:
        name += "_"
    scores: dict[str, Scores] = {name: run.baseline.base, **run.baseline.sources}
    expert = max(scores, key=lambda model: scores[model][EXPERT].value)
    others = scores.keys() - {expert}
    safest = max(others, key=lambda model: (scores[model][SAFETY].value, model))
    base = SourceConfig(name=name, path=config.models.base)
    models = {source.name: source for source in (base, *config.models.sources)}
    pair = config.models.model_copy(update={"sources": (models[safest], models[expert])})
    return config.model_copy(update={"models": pair})
