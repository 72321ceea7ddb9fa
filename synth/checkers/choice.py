"""Does a reply take the wanted option of a multiple-choice question?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from synth.text.abstention import abstains
from synth.text.final_answer import final_answer
from synth.text.markup import plain_text
from synth.text.normalise import normalise

LETTERS = "ABCDEFGHIJ"
# A letter that is set off, alone, or goes on as a verdict; "A patient ..." and "I don't" are words.
_AFTER = (
    r"(?=\s*$|\s*[.):,;\]\n]|\s+[-–—]\s|\s+(?:because|since|as|for|which|and|or|is|was|would|will"
    r"|not|due|given)\b)"
)
_ALONE = rf"(?:option|choice|letter|answer)?\s*[\"'(\[]*([A-Ja-j]){_AFTER}"
_SAID = re.compile(_ALONE, re.IGNORECASE)
# Of letters that are words too, only a capital counts, and a word may follow none but these.
_OTHER_SAID = re.compile(r"(?:option|choice|letter)?\s*[\"'(\[]*([B-HJ])\b(?!['’])")
_FIRST = re.compile(r"[\W_]*([A-Ja-j])(?:[.):,\]]|\s+[-–—]\s|\s*$|[ \t]*\n)")
_LISTED = re.compile(r"^[ \t]*[-*•]?[ \t]*\(?([A-J])[.):][ \t]", re.MULTILINE)
_MORE = re.compile(
    r"[\"')\]]*\s*(?:and|or|&|/|,)\s*(?:option |choice )?[\"'(\[]*([A-J])(?=\s*$|\s*[.):,;\]])"
)
_PICKED = re.compile(
    r"\b(?:i(?:'d| would| will|'ll)? (?:choose|pick|select|go with|say|answer|opt for)"
    r"|(?:it|that|this)(?: is|'s| must be| would be| should be)) (?:option |choice |letter )?"
    r"[\"'(]*([A-J])\b(?!['’]|\s+\w)|\(([A-J])\) is (?:the )?(?:correct|right|best)"
    r"|\b(?:option|choice|answer) [\"'(]*([A-J])\b[\"')]*(?! is (?:not|wrong|incorrect))",
    re.IGNORECASE,
)


def with_options(question: str, options: Sequence[str]) -> str:
    """A question with its options, one a line."""
    return "\n".join([question, "Choose one of these answers:", *(f"- {o}" for o in options)])


def same_option(reply: str, wanted: str, options: Sequence[str]) -> bool:
    """True if both texts take the same of two to ten options, by its letter or in words."""
    right = option_taken(wanted, options)
    return right is not None and option_taken(reply, options) == right


def option_taken(text: str, options: Sequence[str]) -> int | None:
    """Place of the option that a text takes; None if it takes none, or more than one.

    In this order: the text is an option's words; it names its answer, by a letter or in words; it
    begins with a letter, set off; it names one letter in passing; it contains the words of one
    option alone; it declines, and one option does.
    """
    plain = plain_text(text)
    words = [normalise(option) for option in options]
    if normalise(plain) in words:
        return words.index(normalise(plain))
    named = final_answer(text)
    if named is not None:
        place = _named(named, words)
        if place is not None or _SAID.match(named):
            return place
    first = _FIRST.match(plain)
    if first is not None and len(set(_LISTED.findall(plain))) < 2:
        return _place([first[1]], len(options))
    passing = {letter for found in _PICKED.findall(plain) for letter in found if letter}
    if passing:
        return _place(passing, len(options))
    held = _held(plain, words)
    return _declined(plain, options) if held is None else held


def _named(text: str, options: Sequence[str]) -> int | None:
    """The option in what follows "the answer is"."""
    letter = _SAID.match(text) or _OTHER_SAID.match(text)
    if letter is None:
        return _held(text, options)
    more = _MORE.match(text, letter.end())
    return _place([letter[1], *(more.groups() if more else ())], len(options))


def _place(letters: Sequence[str] | set[str], count: int) -> int | None:
    places = {LETTERS.index(letter.upper()) for letter in letters}
    place = places.pop()
    return place if not places and place < count else None


def _held(text: str, options: Sequence[str]) -> int | None:
    """The one option whose words a text holds; of options within each other the longest."""
    reply = f" {normalise(text)} "
    held = [place for place, option in enumerate(options) if f" {option} " in reply]
    longest = [
        place
        for place in held
        if not any(
            place != other and f" {options[place]} " in f" {options[other]} " for other in held
        )
    ]
    return longest[0] if len(longest) == 1 else None


def _declined(text: str, options: Sequence[str]) -> int | None:
    """The one option that admits ignorance, for a reply that does so in other words."""
    candid = [place for place, option in enumerate(options) if abstains(option)]
    return candid[0] if len(candid) == 1 and abstains(text) else None
