"""Metrics, objectives and limits: names, their one canonical order, directions and violations."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, model_validator

from safemerge.score import Scores

Retention = Literal["divergence", "general_refusal", "general_degenerate"]
RETENTION: tuple[Retention, ...] = get_args(Retention)  # measured on general prompts; limits only
Metric = Literal[
    "domain", "harmless", "helpful", "honest", "over_refusal", "degenerate", Retention, "fitness"
]
METRICS: tuple[Metric, ...] = get_args(Metric)
LOWER_IS_BETTER: frozenset[str] = frozenset({"over_refusal", "degenerate", *RETENTION})
IN_NATS: frozenset[str] = frozenset(
    {"divergence"}
)  # from 0, without an upper end; others are shares

MEANING: Mapping[str, str] = {
    "domain": "questions of the field that are answered right",
    "harmless": "harmful prompts that are refused",
    "helpful": "prompts that sound alarming and are not, and are answered",
    "honest": "questions that nobody can answer, where the reply says so",
    "over_refusal": "helpful prompts that are refused; less is better",
    "degenerate": "broken replies: empty, looping, hardly text; less is better",
    "divergence": "how far next tokens are from the base's on general prompts; less is better",
    "general_refusal": "everyday prompts that are refused or not known; less is better",
    "general_degenerate": "broken replies to everyday prompts; less is better",
    "fitness": "mean likelihood of the tokens of wanted answers, weighted over axes",
}

Directions = Mapping[str, bool]
"""`{objective: larger is better}`, in canonical order."""

# The probe axis of a metric where it has another name. Degenerate output is seen on every axis, and
# retention beside all of them; the axes of the fitness are in the config.
_PROBE_AXIS = {"over_refusal": "helpful", **dict.fromkeys(("degenerate", *RETENTION, "fitness"))}

_BOUND = re.compile(r"^\s*(base|best)\s*(?:([+-])\s*(\d*\.?\d+))?\s*$")


class Limit(BaseModel):
    """A constraint on one metric: exactly one of the two bounds.

    A bound is a number in the metric's range, [0, 1] except for what is in nats, or "base + x",
    "base - x" relative to the base's score, or "best - x" relative to the best of base and sources.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    at_least: float | str | None = None
    at_most: float | str | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> Limit:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give exactly one of at_least and at_most")
        if isinstance(self.bound, str) and _BOUND.match(self.bound) is None:
            raise ValueError(
                f"cannot read the bound {self.bound!r}; write a number, 'base + 0.03' or "
                "'best - 0.05'"
            )
        return self

    @property
    def bound(self) -> float | str:
        bound = self.at_least if self.at_least is not None else self.at_most
        assert bound is not None  # the validator saw to it
        return bound

    @property
    def text(self) -> str:
        """As it is written in a config."""
        side = "at_least" if self.at_least is not None else "at_most"
        return f"{side} = {json.dumps(self.bound)}"

    def check_range(self, metric: str) -> None:
        """Refuse a number that no score of this metric can be, as a ValueError."""
        if isinstance(self.bound, str) or 0.0 <= self.bound <= upper_end(metric):
            return
        if metric in IN_NATS:
            raise ValueError(
                f"the bound {self.bound:g} is no {metric}, which is in nats and at least 0"
            )
        raise ValueError(
            f"the bound {self.bound:g} is no score, which are shares in [0, 1]; 5 % is 0.05"
        )

    def resolve(self, metric: str, baseline: ReferenceScores) -> float:
        """The bound as a number."""
        if not isinstance(self.bound, str):
            return float(self.bound)
        match = _BOUND.match(self.bound)
        assert match is not None  # the validator saw to it
        anchor, sign, offset = match.groups()
        reference = baseline.base[metric].value
        if anchor == "best":
            values = [reference, *(scores[metric].value for scores in baseline.sources.values())]
            reference = min(values) if metric in LOWER_IS_BETTER else max(values)
        return reference + float(offset or 0.0) * (-1.0 if sign == "-" else 1.0)


@dataclass(frozen=True, slots=True)
class ReferenceScores:
    """What limits may be relative to, all on the same probes."""

    base: Scores
    sources: Mapping[str, Scores]  # `{source: scores}`


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a search, and how far scores lie outside them."""

    limits: Mapping[str, Limit]  # `{metric: limit}`
    baseline: ReferenceScores

    def bound(self, metric: str) -> float:
        """The bound on a metric as a number."""
        return self.limits[metric].resolve(metric, self.baseline)

    def violations(self, scores: Scores) -> dict[str, float]:
        """`{metric: distance beyond its bound}` of what is limited and measured; <= 0 is within.

        A distance of d nats counts as 1 - exp(-d), so that it weighs no more than a share can.
        """
        found = {}
        for metric, limit in self.limits.items():
            if metric in scores:
                sign = 1.0 if limit.at_least is not None else -1.0
                by = sign * (self.bound(metric) - scores[metric].value)
                found[metric] = -math.expm1(-by) if metric in IN_NATS and by > 0.0 else by
        return found

    def broken(self, scores: Scores) -> dict[str, float]:
        """The violations that are larger than one standard error of the score."""
        found = self.violations(scores)
        return {metric: by for metric, by in found.items() if by > scores[metric].stderr}

    def total(self, scores: Scores) -> float:
        return total_violation(self.violations(scores).values())


def upper_end(metric: str) -> float:
    """Of the scores of a metric, which begin at 0."""
    return math.inf if metric in IN_NATS else 1.0


def total_violation(violations: Iterable[float]) -> float:
    """Sum of the positive ones; 0 is within all limits."""
    return math.fsum(max(violation, 0.0) for violation in violations)


def signs(directions: Directions) -> dict[str, float]:
    """`{objective: sign}`, the one that makes larger better."""
    return {name: 1.0 if larger else -1.0 for name, larger in directions.items()}


def gains(scores: Scores, directions: Directions) -> tuple[float, ...]:
    """The values of the objectives, with the sign that makes larger better."""
    return tuple(scores[metric].value * sign for metric, sign in signs(directions).items())


def probe_axis(metric: str) -> str | None:
    """The probe axis that a metric is measured on; None where it is on several."""
    return _PROBE_AXIS.get(metric, metric)


def probe_axes(metrics: Iterable[str]) -> tuple[str, ...]:
    """The probe axes that metrics are measured on, each once, in the order given."""
    axes = (probe_axis(metric) for metric in metrics)
    return tuple(dict.fromkeys(axis for axis in axes if axis is not None))


def measurable(
    axes: Iterable[str], fitness: Collection[str] = (), *, general: bool = False
) -> frozenset[str]:
    """Metrics that can be measured on probes of these axes.

    Args:
        axes: that have probes.
        fitness: the axes that it is made of; none where it is not wanted.
        general: whether there are general prompts.
    """
    present = set(axes)
    metrics = present | {"degenerate", *(RETENTION if general else ())}
    if {"helpful", "harmless"} <= present:  # a refusal is known from the harmless probes
        metrics.add("over_refusal")
    if fitness and set(fitness) <= present:
        metrics.add("fitness")
    return frozenset(metrics)
