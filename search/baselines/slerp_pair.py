"""The two models that SLERP is made of: the expert, and the safest of the others.

Hammoud et al. 2024 (2406.14563) merge an aligned base with one expert by SLERP, and do not say
which two of several to take; here the scores on the search probes decide.
"""

from __future__ import annotations

from safemerge.score import Scores
from search.baselines.ablations import SAFETY
from search.baselines.fitness import EXPERT
from search.config import ModelsConfig, SearchConfig, SourceConfig
from search.results.run import Run


def two_models(config: SearchConfig, run: Run) -> SearchConfig:
    """The search over two models alone, the safest first; the base is one of the candidates."""
    name = "the_base"
    while name in run.baseline.sources:
        name += "_"
    scores: dict[str, Scores] = {name: run.baseline.base, **run.baseline.sources}
    expert = max(scores, key=lambda model: scores[model][EXPERT].value)
    others = scores.keys() - {expert}
    safest = max(others, key=lambda model: (scores[model][SAFETY].value, model))
    base = SourceConfig(name=name, path=config.models.base)
    models = {source.name: source for source in (base, *config.models.sources)}
    pair = ModelsConfig(base=config.models.base, sources=(models[safest], models[expert]))
    return config.model_copy(update={"models": pair})
