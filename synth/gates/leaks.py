"""The gate of leaks: nothing that a reference set holds already, or nearly, is asked again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set

from synth.gates.filtered import Filtered, Item, Prompted, part
from synth.gates.similar_sets import SimilarSets
from synth.text.normalise import normalise

_NGRAM = 8
# A near copy has four fifths of the words or of the 8-word sequences in common.
NEAR = 0.8


class LeakReference:
    """What must not be asked again: items, and texts of which no terms are known; indexed once."""

    def __init__(self, items: Sequence[Prompted] = (), texts: Sequence[str] = ()) -> None:
        bare = {normalise(text) for text in texts}
        self._texts = bare | {normalise(item.prompt) for item in items}
        self._terms = {normalise(term) for item in items for term in item.terms}
        self._any = _NearCopies(self._texts)
        self._termless = _NearCopies(
            bare | {normalise(item.prompt) for item in items if not item.terms}
        )

    def why_leaked(self, item: Prompted) -> str | None:
        """Why the item leaks: "same prompt", "shared term" or "near copy"; None if it does not."""
        text = normalise(item.prompt)
        if text in self._texts:
            return "same prompt"
        if any(normalise(term) in self._terms for term in item.terms):
            return "shared term"
        near = self._termless if item.terms else self._any
        return "near copy" if near.has(text) else None


def drop_leaks(
    items: Sequence[Item], reference: LeakReference, *, kind: str = "leak"
) -> Filtered[Item]:
    """Drop what a reference set holds already.

    An item leaks if a reference prompt is the same after normalising, shares a term, or shares
    four fifths of the words (Jaccard index) or of the 8-word sequences of the shorter of the two.
    Where both have terms, the terms decide: "the dose of X" and "the dose of Y" share most words.
    """
    reasons = [reference.why_leaked(item) for item in items]
    return part(items, [why and f"{kind}: {why}" for why in reasons])


class _NearCopies:
    """Normalised texts, indexed by words and by 8-word sequences."""

    def __init__(self, texts: Set[str]) -> None:
        words = [frozenset(text.split()) for text in sorted(texts)]
        self._words = SimilarSets(NEAR, Counter(word for members in words for word in members))
        for members in words:
            self._words.add(members)
        self._grams = [grams for grams in map(_grams, sorted(texts)) if grams]
        self._by_gram: dict[str, list[int]] = {}
        for place, grams in enumerate(self._grams):
            for gram in grams:
                self._by_gram.setdefault(gram, []).append(place)

    def has(self, text: str) -> bool:
        """Is one of the texts near?"""
        if self._words.has(frozenset(text.split())):
            return True
        grams = _grams(text)
        shared = Counter(place for gram in grams for place in self._by_gram.get(gram, ()))
        return any(
            count / min(len(grams), len(self._grams[place])) >= NEAR
            for place, count in shared.items()
        )


def _grams(text: str) -> frozenset[str]:
    words = text.split()
    starts = range(len(words) - _NGRAM + 1)
    return frozenset(" ".join(words[at : at + _NGRAM]) for at in starts)
