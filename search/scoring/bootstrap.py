"""Which points of a front differ significantly: paired bootstrap over held-out probes.

Percentile intervals after Efron (1979); paired resampling of test items after Koehn (2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from synth.probes.probe import AXES

if TYPE_CHECKING:
    from search.scoring.generation import Answer

_RESAMPLES = 2000
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better one model is than another on one axis."""

    value: float  # share of correct answers, minus the other's, in [-1, 1]
    low: float  # of the 95 % interval of this comparison by itself, not of many together
    high: float
    apart: bool  # the interval does not contain 0


def paired_differences(
    answers: Sequence[Answer], others: Sequence[Answer]
) -> dict[str, Difference]:
    """`{axis: difference}` of two models' answers to the same probes; else a ValueError."""
    if [answer.id for answer in answers] != [answer.id for answer in others]:
        raise ValueError("the answers of the two models are not to the same probes")
    differences: dict[str, Difference] = {}
    for axis in AXES:
        gains = [
            float(a.correct) - float(b.correct)
            for a, b in zip(answers, others, strict=True)
            if a.axis == axis
        ]
        if gains:
            differences[axis] = mean_difference(np.asarray(gains))
    return differences


def mean_difference(gains: NDArray[np.float64]) -> Difference:
    """The mean of gains (n,), n >= 1, with its interval; the same gains give the same interval."""
    generator = np.random.default_rng(0)
    draws = generator.integers(len(gains), size=(_RESAMPLES, len(gains)))
    tail = 50.0 * (1.0 - _LEVEL)
    low, high = np.percentile(gains[draws].mean(axis=1), [tail, 100.0 - tail]).tolist()
    return Difference(float(gains.mean()), low, high, apart=low > 0.0 or high < 0.0)
