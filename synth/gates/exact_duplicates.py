"""The gate of exact repeats: a question is asked once, whatever its case and punctuation."""

from __future__ import annotations

from collections.abc import Sequence

from synth.gates.filtered import Filtered, Item, part
from synth.text.normalise import normalise


def drop_duplicates(items: Sequence[Item], seen: Sequence[str] = ()) -> Filtered[Item]:
    """Keep the first item of each normalised prompt; `seen` are prompts that are taken already."""
    known = {normalise(prompt) for prompt in seen}
    reasons: list[str | None] = []
    for item in items:
        key = normalise(item.prompt)
        reasons.append("duplicate" if key in known else None)
        known.add(key)
    return part(items, reasons)
