"""The gate of soundness: text that is no question, or none that can be asked by itself.

A judge knows replies only, so this reads plain text. What it knows of sentences is English; a
question in another language passes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from synth.gates.filtered import Filtered, Item, part
from synth.text.degenerate import is_degenerate
from synth.text.normalise import normalise
from synth.text.refusal import refusal_in

_END = re.compile(r"[?!.…。？！؟।\"'”’»)\]]\s*$")
# After these words an English sentence goes on.
_GOES_ON = re.compile(
    r"\b(?:a|an|the|of|to|in|on|at|for|from|with|by|and|or|but|if|that|which|who|whose|is|are|was"
    r"|were|be|been|do|does|did|can|could|should|would|will|may|might|must|your|my|their|its|his"
    r"|her|our|as|than|into|about|between|because|when|while|what|how|why|i)[\s,:;]*[?!.…]*\s*$",
    re.IGNORECASE,
)
# "Who is it for?" ends soundly with a word of the list above where a verb and its object precede.
_ASKS_ABOUT = re.compile(
    r"^(?:what|who|whom|which|where)\b.*\b(?:for|from|to|in|on|at|with|by|about|of)\s*\?\s*$",
    re.IGNORECASE,
)
_THINGS = (
    r"(?:passage|text|article|paragraph|excerpt|table|figure|image|picture|diagram|chart|document"
    r"|conversation|dialogue|scenario|statement|sentence|question|story|example|study|case|options?"
    r"|list|code|email|letter)s?"
)
# Words that point at something which whoever is asked does not see.
_POINTS = re.compile(
    r"\b(?:the|this|that|these|those) "
    r"(?:above|following|below|given|provided|previous|preceding)\b"
    rf"|\b(?:above|previous|preceding|aforementioned) {_THINGS}\b"
    rf"|\b(?:in|from|to|by|of|about|with) (?:the|this|that) {_THINGS}(?: (?:above|below))?\s*[?.,]"
    rf"|\baccording to (?:the|this|that) {_THINGS}\b"
    rf"|\b(?:this|that|these|those) {_THINGS}\b"
    r"|\bas (?:mentioned|described|shown|stated) (?:above|below|earlier)\b"
    r"|\bwhich of the following\b",
    re.IGNORECASE,
)
# A question that opens with a pronoun whose noun is nowhere.
_PRONOUN = re.compile(
    r"^(?:and |so |but |then )?(?:what|how|why|when|where|who|can|could|do|does|did|is|are|was|were"
    r"|will|would|should)(?:'s)? (?:\w+ ){0,2}?(?:it|this|that|they|them|these|those|he|she|him)\b",
    re.IGNORECASE,
)
# "that" and "it" that stand for nothing: "Is it legal to ...", "How is it possible that ...".
_EXPLETIVE = re.compile(
    r"\b(?:it|that) (?:\w+ly )?(?:\w+ )?(?:to|that|if|when|for|like|take[ns]?|possible|true|legal"
    r"|illegal|safe|ok|okay|wrong|right|normal|called)\b|\bthat \w+ (?:who|which|is|are|can)\b",
    re.IGNORECASE,
)
# How a sentence begins that asks without a question mark.
_ASKS = re.compile(
    r"^(?:please |now |first |can |could |would )?(?:what|when|where|who|whom|whose|which|why|how"
    r"|if|in|is|are|was|were|do|does|did|can|could|should|would|will|may|might|has|have|had|am"
    r"|write|tell|give|explain|describe|list|name|show|help|teach|make|create|compose|draft|invent"
    r"|translate|rewrite|summari[sz]e|compare|calculate|compute|find|identify|define|state|provide"
    r"|suggest|recommend|discuss|outline|solve|convert|choose|pick|select|say|answer|imagine|pretend"
    r"|design|develop|generate|produce|plan|build|convince|persuade|walk me|let me know"
    r"|i (?:want|need|would like)|i'd like)\b",
    re.IGNORECASE,
)
_LEAST_WORDS = 3


def drop_unsound(
    items: Sequence[Item], copied: Sequence[bool], *, by_itself: bool = True
) -> Filtered[Item]:
    """Drop what no reader could answer as it stands.

    Without `by_itself` only the first three reasons count: a question that a user brings, or a form
    of one that has passed, is taken as it is.

    Reasons: "broken question" (loops, or hardly text), "writer refused", "copied from the request"
    (as `copied` says of the item at its place), "unfinished question" (cut off, or fewer than three
    words), "no question" (a statement), "not self-contained" (it points at a text, or opens with a
    pronoun for a noun that is not there).
    """
    pairs = zip(items, copied, strict=True)
    return part(items, [_why(item.prompt, copy, by_itself) for item, copy in pairs])


def is_copied(text: str, request: str) -> bool:
    """True if a text is a piece of the request, word for word, case and punctuation apart."""
    bare = normalise(text)
    return f" {bare} " in f" {normalise(request)} "


def _why(prompt: str, copied: bool, by_itself: bool) -> str | None:
    if is_degenerate(prompt):
        return "broken question"
    if "?" not in prompt and refusal_in(prompt) == "whole":
        return "writer refused"
    if copied:
        return "copied from the request"
    if not by_itself:
        return None
    text = " ".join(prompt.split())
    if _unfinished(text):
        return "unfinished question"
    # English alone is known to ask in other words than a question mark.
    if text.isascii() and "?" not in text and not _ASKS.match(text.lstrip("\"'(")):
        return "no question"
    if _POINTS.search(text) or (_PRONOUN.match(text) and not _EXPLETIVE.search(text)):
        return "not self-contained"
    return None


def _unfinished(text: str) -> bool:
    # A script without spaces has no words to count.
    if text.isascii() and len(text.split()) < _LEAST_WORDS:
        return True
    if _GOES_ON.search(text) and not _ASKS_ABOUT.match(text):
        return True
    return text.endswith((":", ",", ";")) or (not _END.search(text) and len(text.split()) > 12)
