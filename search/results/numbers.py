"""Measured numbers as text, rounded as a person would: the unit stands in a heading beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safemerge.score import Score

if TYPE_CHECKING:
    from search.scoring.paired_differences import Difference


def percent(score: Score) -> str:
    """A rate with its standard error, in percent.

    >>> percent(Score(0.8325, 0.05, 20)), percent(Score(1.0, 0.5, 1))
    ('83.2 ± 5.0', '100.0, one probe')
    """
    if score.n == 1:
        return f"{100 * score.value:.1f}, one probe"
    return f"{100 * score.value:.1f} ± {100 * score.stderr:.1f}"


def share(score: Score) -> str:
    """A likelihood, or nats, with its standard error."""
    if score.n == 1:
        return f"{score.value:.3f}, one probe"
    return f"{score.value:.3f} ± {score.stderr:.3f}"


def points(difference: Difference) -> str:
    """A difference of rates in points with its interval."""
    value, low, high = (signed(x) for x in (difference.value, difference.low, difference.high))
    return f"{value} ({low} to {high})"


def signed(part: float) -> str:
    """A share in points with its sign; nothing has none.

    >>> signed(0.051), signed(-0.0001)
    ('+5.1', '0.0')
    """
    text = f"{100 * part:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def listed(words: Sequence[str]) -> str:
    """Words as in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)
