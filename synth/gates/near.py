"""The gate of near-duplicates: the same question in almost the same letters.

Likeness is the Jaccard index of the sets of four-letter runs of two normalised questions. Runs of
letters, not words: a long name that differs then weighs more than a short word. MinHash signatures
(Broder 1997, through datasketch) in 32 bands of 4 find the pairs that may be alike; each is then
compared exactly, so that nothing is dropped by chance, and of pairs at 0.8 about one in 10^7 is
missed (at 0.6, one in a hundred). Threshold, length of runs and the rule on numbers are ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from synth.gates.filtered import Filtered, Item, part
from synth.text.normalise import normalise

_RUN = 4
_BANDS, _ROWS = 32, 4
_NUMBER = re.compile(r"\d+")


def drop_near_duplicates(
    items: Sequence[Item], *, seen: Sequence[str] = (), threshold: float
) -> Filtered[Item]:
    """Keep the first of questions that are alike.

    Two questions with different numbers are never alike: "twice 40 mg" is not "twice 80 mg".

    Args:
        items: any number.
        seen: prompts that are taken already.
        threshold: likeness from which on an item is dropped, in [0.6, 1]; 1 turns the gate off.
    """
    if threshold == 1:
        return part(items, [None for _ in items])
    known = _Alike(threshold)
    for prompt in seen:
        known.add(prompt)
    reasons: list[str | None] = []
    for item in items:
        alike = known.has(item.prompt)
        reasons.append("near-duplicate" if alike else None)
        if not alike:
            known.add(item.prompt)
    return part(items, reasons)


def likeness(one: str, other: str) -> float:
    """Jaccard index of the letter runs of two texts, in [0, 1]; 0 where their numbers differ."""
    if _numbers(one) != _numbers(other):
        return 0.0
    runs, others = _runs(one), _runs(other)
    return len(runs & others) / len(runs | others)


class _Alike:
    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH  # takes a second to import

        self._threshold = threshold
        self._texts: list[str] = []
        self._index = MinHashLSH(num_perm=_BANDS * _ROWS, params=(_BANDS, _ROWS))

    def add(self, text: str) -> None:
        self._index.insert(len(self._texts), _signature(text))
        self._texts.append(text)

    def has(self, text: str) -> bool:
        found = self._index.query(_signature(text))
        return any(likeness(text, self._texts[place]) >= self._threshold for place in found)


def _signature(text: str) -> object:
    from datasketch import MinHash

    signature = MinHash(num_perm=_BANDS * _ROWS)
    signature.update_batch([run.encode() for run in sorted(_runs(text))])
    return signature


def _runs(text: str) -> set[str]:
    plain = normalise(text)
    return {plain[start : start + _RUN] for start in range(max(1, len(plain) - _RUN + 1))}


def _numbers(text: str) -> list[str]:
    return sorted(_NUMBER.findall(text))
