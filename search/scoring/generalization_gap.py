"""The generalisation gap: likelihood of the wanted answers on search minus held-out probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot

from safemerge.score import Score, Scores
from synth.probes.probe import AXES

MEAN = "mean"  # of the axes, as one more of them


@dataclass(frozen=True, slots=True)
class Gap:
    """One axis of one model."""

    search: Score
    heldout: Score
    # search minus held-out, in [-1, 1]; above 0 the model does better on search probes
    value: float
    stderr: float  # standard error of `value`; the two sets of probes are independent


def gaps(search: Scores, heldout: Scores) -> dict[str, Gap]:
    """`{axis: gap}` over the axes that both have, at least one, and their mean as the last one."""
    axes: list[str] = [axis for axis in AXES if axis in search and axis in heldout]
    sides = {axis: (search[axis], heldout[axis]) for axis in axes}
    sides[MEAN] = (_mean([search[a] for a in axes]), _mean([heldout[a] for a in axes]))
    return {axis: _gap(*pair) for axis, pair in sides.items()}


def _gap(search: Score, heldout: Score) -> Gap:
    return Gap(search, heldout, search.value - heldout.value, hypot(search.stderr, heldout.stderr))


def _mean(scores: Sequence[Score]) -> Score:
    """Every axis counts the same, however many probes it has."""
    count = len(scores)
    return Score(
        value=sum(score.value for score in scores) / count,
        stderr=hypot(*(score.stderr for score in scores)) / count,
        n=sum(score.n for score in scores),
    )
