"""The gate of balance: no category may crowd out the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import ceil


def beyond_share(
    categories: Iterable[str], *, wanted: int, of: int, most: float
) -> tuple[bool, ...]:
    """Whether each item comes after its category is full.

    Args:
        categories: of the items of one axis.
        wanted: items of the axis in all, at least 1.
        of: categories that there are, at least 1.
        most: times its even share, wanted / of, that a category may hold, at least 1.
    """
    room = ceil(most * wanted / of)
    count: Counter[str] = Counter()
    beyond = []
    for category in categories:
        count[category] += 1
        beyond.append(count[category] > room)
    return tuple(beyond)
