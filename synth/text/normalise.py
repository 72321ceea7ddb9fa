"""What counts as the same text: normalising, for every gate and for every comparison."""

from __future__ import annotations

import re

_NOT_WORDS = re.compile(r"[^\w\s]+")


def normalise(text: str) -> str:
    """Lower case, without punctuation, single spaces; text of punctuation alone stays as it is."""
    words = " ".join(_NOT_WORDS.sub("", text.casefold()).split())
    return words or " ".join(text.split())
