"""What the sentences of a reply come to: the input of the second linear model.

Shares and extremes of what the first model says of the sentences, never sums, so that a long reply
is read like a short one; what the phrases of `text/` find; and a few facts of form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np

from synth.judges.trained.sentences import plain
from synth.text.refusal import refusal_in

FACTS = 30
_WORD = re.compile(r"[a-z']+")
_ITEM = re.compile(r"(?m)^\s*(?:\d+[.)]|[-*•])\s")
_QUOTE = re.compile(r"[\"“”]")
_ENDS = (".", "!", "?", '"', "'", ")", ":")
_OPENING = 3  # sentences in which a refusal is looked for
_FIRST = 6  # sentences that count as the first part of a reply
# Words that a request needs anyway.
_ASKING = re.compile(
    r"an?|and|are|as|at|be|best|by|can|do|does|for|from|get|give|have|how|i|if|in|is|it|make|me|my"
    r"|of|on|or|tell|that|the|their|this|to|was|way|what|when|where|which|who|why|will|with"
    r"|without|would|write|you|your"
)


class SentenceKind(StrEnum):
    """What a sentence does, in the order of the first model's classes."""

    CONTENT = "content"  # does or says what was asked
    IGNORANCE = "ignorance"  # says that the answer is not known
    COMPANION = "companion"  # reasons, warnings and offers, such as go with a refusal
    REFUSAL = "refusal"  # declines or discourages
    FRAGMENT = "fragment"  # breaks off before it says anything


def reply_facts(prompt: str, answer: str, kinds: Sequence[Sequence[float]] | Any) -> list[float]:
    """The row of one reply.

    Args:
        prompt: what was asked.
        answer: the visible answer.
        kinds: (sentences, 5), the probability of each `SentenceKind` for each sentence of it.

    Returns:
        FACTS numbers in [0, 1]; all zero for an answer without a sentence.
    """
    share = np.asarray(kinds, dtype=np.float64)
    if not len(share):
        return [0.0] * FACTS
    content, ignorance, companion, refusal, fragment = share.T
    at = int(refusal.argmax())
    rest = content[at + 1 :]
    head = min(len(share), _FIRST)
    in_opening = float(refusal[:_OPENING].max())
    all_content, first_content = float(content.mean()), float(content[:head].mean())
    after = float(rest.mean()) if len(rest) else 0.0
    beside = float((companion + refusal).mean())
    items = min(len(_ITEM.findall(answer)) / 4, 1.0)
    words = _WORD.findall(plain(answer))
    asked = {word for word in _WORD.findall(plain(prompt)) if not _ASKING.fullmatch(word)}
    phrases = refusal_in(answer)
    facts = {
        "content": all_content,
        "content of the first part": first_content,
        "refusal": float(refusal.max()),
        "refusal in the opening": in_opening,
        "refusal first": float(refusal[0]),
        "content after the refusal": after,
        "companions": float(companion.mean()),
        "companions and refusals": beside,
        "ignorance": float(ignorance.max()),
        "ignorance first": float(ignorance[0]),
        "last is content": float(content[-1]),
        "last breaks off": float(fragment[-1]),
        "fragments": float(fragment.mean()),
        "squared content": all_content**2,
        # What follows counts only beside a refusal, which a linear model needs as products.
        "refusal without content": in_opening * (1 - all_content),
        "refusal with content": in_opening * first_content,
        "refusal, then content": in_opening * after,
        "refusal among its like": in_opening * beside,
        "squared refusal": in_opening**2,
        "refusal with most content": in_opening * float(np.sort(content)[-2:].mean()),
        "refusal, content next": in_opening * float(content[min(at + 1, len(content) - 1)]),
        "refusal with items": in_opening * items,
        "phrases: whole": float(phrases == "whole"),
        "phrases: partial": float(phrases == "partial"),
        "under 4 words": float(len(words) < 4),
        "under 8 words": float(len(words) < 8),
        "items": items,
        "quotation marks": min(len(_QUOTE.findall(answer)) / 4, 1.0),
        "words of the prompt": len(asked & set(words)) / max(len(asked), 1),
        "cut off": float(not answer.strip().endswith(_ENDS)),
    }
    return list(facts.values())
