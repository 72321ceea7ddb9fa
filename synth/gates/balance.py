"""The gate of balance: no category may crowd out the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import ceil


def beyond_share(
    categories: Iterable[str], *, wanted: int, of: int, most: float
) -> tuple[bool, ...]:
    """Whether each item of one axis comes after its category is full.

    A category may hold `most` times its even share, `wanted` items / `of` categories.
    """
    room = ceil(most * wanted / of)
    count: Counter[str] = Counter()
    beyond = []
    for category in categories:
        count[category] += 1
        beyond.append(count[category] > room)
    return tuple(beyond)
