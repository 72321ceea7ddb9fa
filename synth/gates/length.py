"""The gate of length, in characters."""

from __future__ import annotations

from collections.abc import Sequence

from synth.gates.filtered import Filtered, Item, part


def drop_length(items: Sequence[Item], *, least: int, most: int) -> Filtered[Item]:
    """Keep items whose prompt has `least` to `most` characters, white space at the ends apart."""

    def reason(item: Item) -> str | None:
        size = len(item.prompt.strip())
        return "too short" if size < least else "too long" if size > most else None

    return part(items, [reason(item) for item in items])
