"""The two models that SLERP is made of: the expert, and the safest of the others.

Paper B merges an aligned base with one expert by SLERP (methods.md 2.2, 2.4). Which two of several
they are, it does not say; this choice is ours, by the scores on the search probes.
"""

from __future__ import annotations

from safemerge.score import Scores
from search.baselines.ablations import SAFETY
from search.baselines.fitness import EXPERT
from search.config import ModelsConfig, SearchConfig, SourceConfig
from search.results.run import Run


def two_models(config: SearchConfig, run: Run) -> SearchConfig:
    """The search over two models alone, the safest first; the base is one of the candidates.

    Args:
        config: of the search.
        run: which has scored base and sources.
    """
    name = "the_base"
    while name in run.sources:
        name += "_"
    scores: dict[str, Scores] = {name: run.base, **run.sources}
    expert = max(scores, key=lambda one: scores[one][EXPERT].value)
    safest = max(scores.keys() - {expert}, key=lambda one: (scores[one][SAFETY].value, one))
    base = SourceConfig(name=name, path=config.models.base)
    models = {source.name: source for source in (base, *config.models.sources)}
    pair = ModelsConfig(base=config.models.base, sources=(models[safest], models[expert]))
    return config.model_copy(update={"models": pair})
