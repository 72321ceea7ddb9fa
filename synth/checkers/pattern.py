"""Does a reply match a regular expression of the user's?

Only users write patterns. Even theirs can take exponential time on a reply made for it, so that the
`regex` package stops it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import regex

_SECONDS = 0.5


def matches(reply: str, pattern: str) -> bool | None:
    """Whether the pattern is found in the reply; None if half a second does not tell."""
    try:
        return compiled(pattern).search(reply, timeout=_SECONDS) is not None
    except TimeoutError:
        return None


@cache
def compiled(pattern: str) -> Any:
    """The pattern, compiled once; a `regex.error` if it is none."""
    return regex.compile(pattern)
