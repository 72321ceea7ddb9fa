"""Sets that are like a given one by their Jaccard index, found without comparing all pairs.

Two sets of Jaccard index t or more share one of the |a| - ceil(t |a|) + 1 rarest members of a, so
only sets that have one of these are compared (prefix filter, Bayardo et al. 2007).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from math import ceil


class SimilarSets:
    """Sets of strings, similar from a Jaccard index of `threshold`, in (0, 1], on.

    The frequency of members decides how fast a search is, and not what it finds.
    """

    def __init__(self, threshold: float, frequency: Counter[str]) -> None:
        self._threshold, self._frequency = threshold, frequency
        self._sets: list[Set[str]] = []
        self._places: dict[str, list[int]] = {}

    def add(self, members: Set[str]) -> None:
        """Let a set be found from now on."""
        for member in self._rarest(members):
            self._places.setdefault(member, []).append(len(self._sets))
        self._sets.append(members)

    def has(self, members: Set[str]) -> bool:
        """Is a set that was added similar to this one? An empty set is similar to none."""
        rarest = self._rarest(members)
        candidates = {place for member in rarest for place in self._places.get(member, ())}
        return any(jaccard(members, self._sets[at]) >= self._threshold for at in candidates)

    def _rarest(self, members: Set[str]) -> list[str]:
        ranked = sorted(members, key=lambda member: (self._frequency[member], member))
        # A hair less than the product, which may be rounded up beyond a whole number.
        needed = ceil(self._threshold * len(ranked) - 1e-9)
        return ranked[: len(ranked) - needed + 1]


def jaccard(a: Set[str], b: Set[str]) -> float:
    """Shared members of two sets as a share of all, in [0, 1]; 0 for two empty sets."""
    shared = len(a & b)
    return shared / max(1, len(a) + len(b) - shared)
