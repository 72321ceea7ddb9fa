"""Is a reply about something else altogether? Told without a model, and only where it is plain."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_]{4,}")
_STEM = 5  # letters that two forms of a word share
_LONG = 15  # content words below which a reply is not told to be elsewhere
# Words of four letters and more that every text has.
_COMMON_WORDS = """
about above after again against also although always among another anything around because been
before being below between both cannot could does doing down during each even ever every everything
first following from further have having here however into itself just keep like made make many
might more most much must need never next only other others over please same several should since
some something such sure take than that their them themselves then there these they thing things
this those through time together under until upon used using very want well were what when where
whether which while will with within without would your yours yourself help good best great know
"""
_COMMON = frozenset(_COMMON_WORDS.split())


def is_off_topic(reply: str, prompt: str, answer: str) -> bool:
    """True if a long reply shares no content word with the prompt, nor with the wanted answer.

    Words count as shared by their first five letters. A reply of fewer than 15 content words, or
    to a prompt that has none, is never called so.
    """
    said = _content(reply)
    asked = _content(prompt)
    if len(said) < _LONG or not asked:
        return False
    return not said & (asked | _content(answer))


def _content(text: str) -> set[str]:
    """The first letters of the words that say what a text is about."""
    words = set(_WORD.findall(text.casefold())) - _COMMON
    return {word.removesuffix("s")[:_STEM] for word in words}
