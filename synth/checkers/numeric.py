"""Is a reply's number the wanted one?

A reply that names its result is read there ("The answer is ..", a box). Else its only number
counts; else one in the wanted unit; else, where it reckons, the last that it states as a result,
and where it does not, the first: "The dose is 20 mg, taken 2 times a day" says 20.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isclose, isfinite

from synth.checkers.units import same_dimension, unit_at
from synth.text.final_answer import final_answer
from synth.text.markup import plain_text

# Not the 12 of B12 and not the 5 of 1.2.5.
_NUMBER = re.compile(
    r"(?<![\w.])(?<!\d,)(?:(?<!\d)(?<![\w)][-−–])[-+−])?"
    r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,]*\d)"  # 1,234.5
    r"|\d{1,3}(?:\.\d{3})+,\d+"  # 1.234,5
    r"|\d{1,3}(?:[\u00a0\u2009\u202f'’]\d{3})+(?:[.,]\d+)?"  # 1 234,5 with a thin space, 1'234.5
    r"|\d+,\d+(?![\d,])"  # 2,5
    r"|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3}(?!\d))?"
)
_DIGIT_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
_WORD_NUMBERS = {word: number for number, word in enumerate(_DIGIT_WORDS)} | {
    word: 10 * tens
    for tens, word in enumerate(
        ("thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred"), start=3
    )
}
_IN_WORDS = re.compile(rf"\b({'|'.join(_WORD_NUMBERS)})\b", re.IGNORECASE)
_NUMBERING = re.compile(r"^[ \t]*(?:step )?\d{1,2}[.):](?=\s)", re.MULTILINE | re.IGNORECASE)
_RANGE_AFTER = re.compile(r"\s?(?:[-−–—]|to)\s?\d")
_RANGE_BEFORE = re.compile(r"\d\s?(?:[-−–—]|to)\s?$")
_DENIED = re.compile(r"(?:\bnot|n't)(?: (?:be|about|exactly|just|really))?\s*\W?$", re.IGNORECASE)
_STATED = re.compile(
    r"(?:\b(?:is|are|was|were|be|equals?|equal to|makes|gives|takes?|totals?|needs?|has|have|of"
    r"|that's|it's|about|approximately|around|roughly|exactly)|[=≈:])\s*[(~≈$€£]?\s*$",
    re.IGNORECASE,
)
_RECKONS = re.compile(
    r"[=+×÷]|\b(?:so|therefore|thus|hence|then|in total|altogether|times|plus|minus|divided by"
    r"|multipl\w+|step|first)\b(?! a (?:day|week|month|year)| daily| per)",
    re.IGNORECASE,
)
_ROUNDING = 1e-9
_NEAR = 40  # characters before a number that tell what it is


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of a text, and the unit that follows it."""

    number: float
    unit: str = ""  # as in `units.UNITS`; "" where none that is known follows
    start: int = 0  # its place in the plain text


def same_number(reply: str, wanted: str, *, tolerance: float) -> bool:
    """True if a reply says the wanted number.

    Units that are known are reckoned with (20 mg is 0.02 g); a number without one is taken in the
    other's. 50 % is 0.5. The tolerance is a share of the wanted number, at least 0; where that is
    0, a difference as it is.
    """
    right = number_in(wanted)
    said = None if right is None else number_in(reply, right.unit)
    if right is None or said is None:
        return False
    wants, got = right.number, said.number
    if right.unit and said.unit:
        pair = same_dimension(got, said.unit, wants, right.unit)
        if pair is None:
            return False
        got, wants = pair
    if _close(got, wants, tolerance):
        return True
    # One of them in percent, the other a share.
    if (right.unit == "%") != (said.unit == "%") and not (right.unit and said.unit):
        return _close(got * (0.01 if said.unit else 100.0), wants, tolerance)
    return False


def number_in(text: str, unit: str = "") -> Quantity | None:
    """The number that a text states, best one in the wanted unit; None where it states none."""
    named = final_answer(text)
    if named is not None:
        quantities = _quantities(named)
        if quantities:
            return _in_unit(quantities, unit) or quantities[0]
    plain = _NUMBERING.sub("", plain_text(text))
    quantities = _quantities(plain)
    if len(quantities) < 2:
        return quantities[0] if quantities else None
    stated = [
        q for q in quantities if _STATED.search(plain[max(0, q.start - _NEAR) : q.start])
    ] or quantities
    reckons = _RECKONS.search(plain) is not None
    chosen = stated[-1] if reckons else stated[0]
    if unit:
        return _in_unit(quantities, unit, last=reckons) or chosen
    return chosen


def _quantities(text: str) -> list[Quantity]:
    """The numbers of a plain text that are no part of a range and not denied."""
    found = []
    for match in _NUMBER.finditer(text):
        number = _value(match[0])
        before = text[max(0, match.start() - _NEAR) : match.start()]
        ranged = _RANGE_AFTER.match(text, match.end()) or _RANGE_BEFORE.search(before)
        if isfinite(number) and not ranged and not _DENIED.search(before):
            found.append(Quantity(number, unit_at(text, match.end()), match.start()))
    if found or _NUMBER.search(text):
        return found
    return [
        Quantity(float(_WORD_NUMBERS[match[1].lower()]), unit_at(text, match.end()), match.start())
        for match in _IN_WORDS.finditer(text)
        if not _DENIED.search(text[max(0, match.start() - _NEAR) : match.start()])
    ]


def _in_unit(quantities: list[Quantity], unit: str, *, last: bool = False) -> Quantity | None:
    """The only, or the first or last, number of a unit's kind."""
    fitting = [q for q in quantities if q.unit and same_dimension(1.0, q.unit, 1.0, unit)]
    return fitting[-1 if last else 0] if unit and fitting else None


def _value(text: str) -> float:
    """A number as it is written in English or, with a decimal comma, elsewhere in Europe."""
    text = re.sub(r"[\u00a0\u2009\u202f'’]", "", text.replace("−", "-"))
    mantissa = re.split("[eE]", text)[0]
    if "," in mantissa:
        grouped = re.fullmatch(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?", mantissa)
        text = text.replace(",", "") if grouped else text.replace(".", "").replace(",", ".")
    return float(text)


def _close(number: float, wanted: float, tolerance: float) -> bool:
    spread = max(tolerance * (abs(wanted) or 1.0), _ROUNDING * abs(wanted))
    return isclose(number, wanted, rel_tol=0.0, abs_tol=spread)
