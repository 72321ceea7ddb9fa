"""What a model breaks that no probe asks, in sentences: retention outside its limits.

Limits that a configuration does not have are the default ones here: what is not limited is told
all the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from safemerge.score import Score, Scores
from search.config import SearchConfig
from search.config.retention import DEFAULT_LIMITS
from search.metrics import IN_NATS, RETENTION, Limit, Limits, ReferenceScores
from search.results.run import Run

_DOES = {
    "general_refusal": "refuses, or says that it does not know, on {}",
    "general_degenerate": "gives broken replies to {}",
}


def source_damage(config: SearchConfig, baseline: ReferenceScores) -> list[str]:
    """A sentence for each source that is outside the limits itself."""
    return [
        f"the source {name!r} brings damage: it {damage}; a merge may take it over, so mend that "
        "source, or keep the limits on it"
        for name, scores in baseline.sources.items()
        if (damage := _damage(scores, _limits(config, baseline)))
    ]


def trial_damage(run: Run, number: int) -> str | None:
    """What a trial breaks, by held-out or else validation replies; None where nothing is known."""
    heldout, front = run.heldout(), run.front_record()
    if heldout is not None and number in heldout.front:
        scores: Scores = heldout.front[number]
        sources = {source.name: heldout.rows[source.name] for source in run.config.models.sources}
        baseline = ReferenceScores(heldout.rows["base"], sources)
    else:
        points = [] if front is None else [p for p in front.points if p.trial == number]
        scores = {**(run.dir.trial_scores(number) or {}), **(points[0].answered if points else {})}
        baseline = run.baseline
    damage = _damage(scores, _limits(run.config, baseline))
    return f"trial {number} breaks what no probe asks: it {damage}" if damage else None


def _limits(config: SearchConfig, baseline: ReferenceScores) -> Limits:
    limits = {name: Limit.model_validate(limit) for name, limit in DEFAULT_LIMITS.items()}
    limits.update({name: limit for name, limit in config.limits.items() if name in RETENTION})
    return Limits(limits, baseline)


def _damage(scores: Scores, limits: Limits) -> str:
    """What is outside the limits, as the end of a sentence; empty where nothing is."""
    base = limits.baseline.base
    known: dict[str, Score] = {m: scores[m] for m in RETENTION if m in scores and m in base}
    return ", and ".join(
        _clause(metric, known[metric], base, limits) for metric in limits.broken(known)
    )


def _clause(metric: str, score: Score, base: Mapping[str, Score], limits: Limits) -> str:
    limit = limits.limits[metric].text
    if metric in IN_NATS:
        return (
            f"is {score.value:.2f} nats a token away from the base on its replies (limit {limit})"
        )
    return (
        f"{_DOES[metric].format(f'{_count(score)} of {score.n} general prompts')}, the base on "
        f"{_count(base[metric])} (limit {limit})"
    )


def _count(score: Score) -> int:
    return round(score.value * score.n)
