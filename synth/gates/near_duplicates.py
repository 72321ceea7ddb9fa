"""The gate of near-duplicates: the same question in almost the same letters.

Likeness is the Jaccard index of the sets of four-letter runs of two normalised questions. Runs of
letters, not words: a long name that differs then weighs more than a short word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from synth.gates.filtered import Filtered, Item, part
from synth.gates.similar_sets import SimilarSets
from synth.text.normalise import normalise

_RUN = 4
_NUMBER = re.compile(r"\d+")


def drop_near_duplicates(
    items: Sequence[Item], *, seen: Sequence[str] = (), threshold: float
) -> Filtered[Item]:
    """Keep the first of questions that are alike, and none that is like a `seen` one.

    Two questions with different numbers are never alike: "twice 40 mg" is not "twice 80 mg". The
    threshold, in [0.6, 1], is the likeness from which on an item is dropped; 1 is no gate.
    """
    if threshold == 1:
        return part(items, [None for _ in items])
    prompts = [*seen, *(item.prompt for item in items)]
    runs = [letter_runs(prompt) for prompt in prompts]
    frequency = Counter(run for members in runs for run in members)
    by_numbers: dict[tuple[str, ...], SimilarSets] = {}
    reasons: list[str | None] = []
    for place, (prompt, members) in enumerate(zip(prompts, runs, strict=True)):
        numbers = tuple(sorted(_NUMBER.findall(prompt)))
        if numbers not in by_numbers:
            by_numbers[numbers] = SimilarSets(threshold, frequency)
        known = by_numbers[numbers]
        alike = place >= len(seen) and known.has(members)
        reasons.append("near-duplicate" if alike else None)
        if not alike:
            known.add(members)
    return part(items, reasons[len(seen) :])


def letter_runs(text: str) -> frozenset[str]:
    """Every run of four letters of a text after normalising; the whole of a shorter one."""
    plain = normalise(text)
    return frozenset(plain[at : at + _RUN] for at in range(max(1, len(plain) - _RUN + 1)))
