"""The gate of consensus: do several answers to one question agree?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from synth.text.normalise import normalise


def consensus(samples: Sequence[str], at_least: float) -> str | None:
    """The answer on which most samples agree, up to case, punctuation and white space.

    The first sample of the largest class, or of the first of several; None if the class has less
    than the share `at_least`, in [0, 1].
    """
    counts = Counter(normalise(sample) for sample in samples)
    if not counts:
        return None
    key, size = counts.most_common(1)[0]
    if size < at_least * len(samples):
        return None
    return next(sample for sample in samples if normalise(sample) == key)
