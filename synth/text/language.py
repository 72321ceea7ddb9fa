"""In which languages a text may be written, by py3langid (Lui and Baldwin 2012)."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Any

_LETTERS = re.compile(r"[^\W\d_]+")
_FEW_WORDS = 5  # below, names and drugs are taken for any language
_LEAST = 0.01  # between short English texts and texts in other languages


def language_shares(text: str) -> dict[str, float]:
    """The probability of every language that is known, by its code, most probable first."""
    return {str(code): float(share) for code, share in _identifier().rank(text)}


def known_languages() -> list[str]:
    """The codes of all languages that can be told."""
    return [str(code) for code in _identifier().labels]


def is_foreign(text: str) -> bool:
    """Is a text surely not English: in another script, or of five words that no English text has?

    Short texts in Latin letters are never foreign.
    """
    words = _LETTERS.findall(text)
    letters = "".join(words)
    latin = sum("LATIN" in unicodedata.name(letter, "") for letter in letters)
    if 2 * latin < len(letters):
        return True
    return len(words) >= _FEW_WORDS and language_shares(text).get("en", 0.0) < _LEAST


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # takes a second

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
