"""The gate of languages: models drift into another language than the one they were asked in.

A question is dropped only where the wanted languages together have almost no probability: short
questions full of names are hard to tell.
"""

from __future__ import annotations

from collections.abc import Sequence

from safemerge.errors import ConfigError, near_names
from synth.gates.filtered import Filtered, Item, part
from synth.text.language import known_languages, language_shares

_LEAST = 0.01  # between short English questions and questions in other languages


def drop_languages(items: Sequence[Item], wanted: Sequence[str]) -> Filtered[Item]:
    """Keep items whose prompt may be in one of the wanted languages; no language keeps all."""
    if not wanted:
        return part(items, [None for _ in items])
    check_languages(wanted)

    def reason(item: Item) -> str | None:
        shares = language_shares(item.prompt)
        share = sum(share for code, share in shares.items() if code in wanted)
        return f"language {next(iter(shares))}" if share < _LEAST else None

    return part(items, [reason(item) for item in items])


def check_languages(wanted: Sequence[str]) -> None:
    """Refuse, as a ConfigError, codes that nothing is known about."""
    known = known_languages() if wanted else []
    for code in wanted:
        if code not in known:
            raise ConfigError(
                f"the language {code!r} is not known; give codes such as en or de "
                f"({near_names(code, known)})"
            )
