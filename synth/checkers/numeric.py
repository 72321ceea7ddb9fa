"""Is a reply's number the wanted one?"""

from __future__ import annotations

import re
from math import isclose, isfinite

# Not the 12 of B12 and not the 5 of 1.5; commas group thousands.
_NUMBER = re.compile(
    r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3})?"
)


def same_number(reply: str, wanted: str, *, tolerance: float) -> bool:
    """True if the last number of both texts is the same.

    The last, because an answer that reasons ends with its result. Units are not looked at. The
    tolerance is a share of the wanted number, at least 0; where that is 0, a difference as it is.
    """
    number, right = last_number(reply), last_number(wanted)
    if number is None or right is None:
        return False
    return isclose(number, right, rel_tol=0.0, abs_tol=tolerance * (abs(right) or 1.0))


def last_number(text: str) -> float | None:
    """The last finite number in a text, if there is one."""
    numbers = [float(text.replace(",", "").replace("−", "-")) for text in _NUMBER.findall(text)]
    finite = [number for number in numbers if isfinite(number)]
    return finite[-1] if finite else None
