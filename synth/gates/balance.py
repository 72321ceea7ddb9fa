"""The gate of balance: no category may crowd out the others."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from synth.gates.filtered import beyond


def beyond_share(
    categories: Iterable[str], *, wanted: int, of: int, most: float
) -> tuple[bool, ...]:
    """Whether each item of one axis comes after its category is full.

    A category may hold `most` times its even share, `wanted` items / `of` categories.
    """
    room = ceil(most * wanted / of)
    return beyond(categories, lambda _: room)
