"""A prompt of the real ground: what it is, where it is from, and what it may be used for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["harmful", "advice", "edgy", "domain", "unknowable", "knowable", "general"]
# train: what the experts are trained on; search: what a merge is searched on; heldout: what it is
# reported on. No prompt is in two of them.
Split = Literal["train", "search", "heldout"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One message of a user."""

    kind: Kind
    split: Split
    source: str  # data set and group, or the family of templates
    text: str
    answer: str = ""  # the right one, where there is one


def shuffled(texts: Sequence[str], seed: int) -> list[str]:
    """The distinct texts in an order drawn by seed: of each text's hash, so that others' coming or
    going leaves it in place."""
    return sorted(set(texts), key=lambda text: draw(text, seed))


def draw(text: str, seed: int) -> str:
    """What `shuffled` sorts by: hexadecimal, as if random, the same on every machine."""
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()
