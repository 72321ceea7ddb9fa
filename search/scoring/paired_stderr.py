"""The standard error of a mean difference between two models on the same probes."""

from __future__ import annotations

import math
from collections.abc import Iterable


def paired_stderr(differences: Iterable[float], largest: float = 1.0) -> float:
    """Standard error of the mean of differences (n,), n >= 1; never 0.

    Two probes are added, with half a probe at either end and one in the middle: for results that
    are right or wrong this is the adjustment of Agresti and Min (2005). That draws the mean towards
    0 by n / (n + 2), and the error is taken back to the scale of the mean as it is. So equal
    differences are not certain, one probe on which two models differ is never more than one
    standard error, and of one probe alone it is as large as a difference can be.

    Args:
        largest: that a difference can be, up or down.
    """
    sample = list(differences)
    n = len(sample)
    squares = math.fsum(difference**2 for difference in sample) + largest**2
    spread = squares / (n + 2) - (math.fsum(sample) / (n + 2)) ** 2
    return min(largest, math.sqrt(spread / (n + 2)) * (n + 2) / n)
