"""Does a reply take the wanted option of a multiple-choice question?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from synth.text.normalise import normalise

LETTERS = "ABCDEFGHIJ"
# A letter alone, first and set off, or named as the answer; "A patient ..." takes no option.
_FIRST = re.compile(r"\W*([A-Ja-j])(?:[.):,\]*]|\s*$|\s*\n)")
_NAMED = re.compile(r"\b(?:answer|option|choice)(?: is)?:?\s*\W?\(?([A-J])\b", re.IGNORECASE)


def same_option(reply: str, wanted: str, options: Sequence[str]) -> bool:
    """True if both texts take the same of two to ten options, by its letter or in words."""
    right = option_taken(wanted, options)
    return right is not None and option_taken(reply, options) == right


def option_taken(text: str, options: Sequence[str]) -> int | None:
    """Place of the option that a text takes; None if it takes none, or more than one.

    In this order: the text is an option's words; it begins with a letter, set off; it names a
    letter as the answer; it contains the words of one option alone.
    """
    plain = [normalise(option) for option in options]
    reply = normalise(text)
    if reply in plain:
        return plain.index(reply)
    first = _FIRST.match(text)
    named = {letter.upper() for letter in _NAMED.findall(text)}
    letters = {first[1].upper()} if first else named
    if letters:
        places = {LETTERS.index(letter) for letter in letters}
        place = places.pop()
        return place if not places and place < len(options) else None
    held = [place for place, option in enumerate(plain) if f" {option} " in f" {reply} "]
    return held[0] if len(held) == 1 else None
