"""Two models' shares of right answers to the same probes: test and interval that hold at small n.

The mid-p form of McNemar's test (1947) and the adjusted Wald interval of Bonett and Price (2012),
both as Fagerland, Lydersen and Laake (2013, 2014) recommend for paired shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, sqrt
from statistics import NormalDist

LEVEL = 0.95  # of an interval by itself
_Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)


@dataclass(frozen=True, slots=True)
class Comparison:
    low: float  # of the interval of the difference of shares, in [-1, 1]
    high: float
    p: float  # of both models being right equally often, two-sided, in (0, 1]


def compare_shares(gained: int, lost: int, n: int) -> Comparison:
    """One model against another on n >= 1 probes.

    Args:
        gained: probes that only the one model answers right.
        lost: probes that only the other one does.
    """
    least, differ = min(gained, lost), gained + lost
    below = sum(comb(differ, k) for k in range(least)) / 2**differ
    p = min(1.0, 2.0 * below + comb(differ, least) / 2**differ) if gained != lost else 1.0
    more, less = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    difference = more - less
    reach = _Z * sqrt((more + less - difference**2) / (n + 2))
    return Comparison(max(-1.0, difference - reach), min(1.0, difference + reach), p)
