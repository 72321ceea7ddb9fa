"""Score: one measured number with its standard error, which is never 0."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_PSEUDO = (0.0, 0.0, 1.0, 1.0)  # what the plus-four rule adds to the values
_WIDEST = 0.5  # no values in [0, 1] spread wider (Popoviciu 1935)


@dataclass(frozen=True, slots=True)
class Score:
    """A measured share or mean likelihood: value in [0, 1], standard error, number of probes.

    The standard error is at least what equal values would leave: 1 / (n + 4) by the plus-four
    rule, the least it gives, and 0.5 for one probe, from which nothing can be told. A smaller one,
    such as the 0 of files of earlier versions, is raised to that.
    """

    value: float
    stderr: float
    n: int

    def __post_init__(self) -> None:
        least = _WIDEST if self.n <= 1 else 1.0 / (self.n + len(_PSEUDO))
        if not self.stderr >= least:  # so that NaN is caught too
            object.__setattr__(self, "stderr", least)


Scores = Mapping[str, Score]
"""`{metric: score}`."""


def mean_score(values: Iterable[float]) -> Score:
    """The mean of values in [0, 1], at least one, with its standard error by the plus-four rule.

    Two values of 0 and two of 1 are added, and the standard error is that of the mean of all n + 4.
    For shares, whose values are 0 or 1, that is the rule of Agresti and Coull (1998). Without it n
    equal values would have no error, and a sample that misses a rare bad value too small a one.
    """
    sample = list(values)
    n = len(sample)
    padded = [*sample, *_PSEUDO]
    centre = math.fsum(padded) / len(padded)
    spread = math.fsum((value - centre) ** 2 for value in padded) / len(padded)
    return Score(math.fsum(sample) / n, math.sqrt(spread / len(padded)), n)
