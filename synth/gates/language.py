"""The gate of languages: models drift into another language than the one they were asked in.

py3langid (Lui and Baldwin 2012) gives every language a probability. A question is dropped only
where the wanted ones together have almost none: short questions full of names are hard to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from safemerge.errors import ConfigError, near_names
from synth.gates.filtered import Filtered, Item, part

_LEAST = 0.01  # between short English questions and questions in other languages


def drop_languages(items: Sequence[Item], wanted: Sequence[str]) -> Filtered[Item]:
    """Keep items whose prompt may be in one of the wanted languages; no language keeps all."""
    if not wanted:
        return part(items, [None for _ in items])
    check_languages(wanted)

    def reason(item: Item) -> str | None:
        ranked = [(str(code), float(share)) for code, share in _identifier().rank(item.prompt)]
        share = sum(share for code, share in ranked if code in wanted)
        return f"language {ranked[0][0]}" if share < _LEAST else None

    return part(items, [reason(item) for item in items])


def check_languages(wanted: Sequence[str]) -> None:
    """Refuse, as a ConfigError, codes that nothing is known about."""
    known = [str(code) for code in _identifier().labels] if wanted else []
    for code in wanted:
        if code not in known:
            raise ConfigError(
                f"the language {code!r} is not known; give codes such as en or de "
                f"({near_names(code, known)})"
            )


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # takes a second

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
