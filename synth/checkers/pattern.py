"""Does a reply match a regular expression of the user's, within a time limit?

Only users write patterns: one that a model wrote would be a program from a stranger. Even a user's
pattern can take exponential time on a reply made for it, so that the `regex` package stops it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import regex

_SECONDS = 0.5


def matches(reply: str, pattern: str) -> bool:
    """True if the pattern is found in the reply; False also if half a second does not tell.

    Raises:
        regex.error: if it is no pattern.
    """
    try:
        return compiled(pattern).search(reply, timeout=_SECONDS) is not None
    except TimeoutError:
        return False


@cache
def compiled(pattern: str) -> Any:
    """The pattern, compiled once.

    Raises:
        regex.error: if it is no pattern.
    """
    return regex.compile(pattern)
