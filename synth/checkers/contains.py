"""Does a reply say the wanted answer, whatever else it says?

"Omeprazole is a type of medication called a proton pump inhibitor (PPI)" says "proton pump
inhibitor". Whoever denies it, asks about it, or lists it among others does not say it. The words
must stand together and in order, at word boundaries; plurals, hyphens, articles, accents, British
or American spelling and parentheses make no difference.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import islice, takewhile

from synth.text.final_answer import final_answer
from synth.text.markup import plain_text

_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’](?!s\b)\w+)?|\d+")
_ARTICLE = r"(?:(?:an?|the)[\W_]+)?"
# What may stand between two words of the answer: "enzyme (ACE) inhibitor", "beta-blocker".
_BETWEEN = rf"(?:[\s\W_]*?|\s*\([^()\n]{{0,40}}\)\s*)(?:and[\W_]+)?{_ARTICLE}"
_CARRIER = re.compile(
    r"^(?:(?:it|this|that|he|she)(?: is|'s| was)|(?:they|these)(?: are|'re| were)"
    r"|(?:the )?(?:correct |right )?answer (?:is|was))\s+(?=\S)",
    re.IGNORECASE,
)
# "anaesthetic" and "anesthetic", "colour" and "color": what else falls together does no harm.
_SPELLINGS = (("[ao]e", "e"), (r"(?<=\w)our", "or"), ("z", "s"), ("sulph", "sulf"))
_PASSED_OVER = {"a", "an", "the", "and"}
_POLAR = {"yes": "no", "no": "yes", "true": "false", "false": "true"}
# A clause ends here; a comma ends one where another begins after it.
_CLAUSE_END = re.compile(
    r"[.!?;:\n](?=\s|$)|\n|,?\s+(?:but|however|instead(?! of)|rather(?! than))\b"
    r"|,\s+(?=(?:it|this|that|these|they|he|she|which|who|rather|so|the answer)\b(?! than))"
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
_NO_DENIAL = re.compile(
    r"\b(?:no (?:doubt|question|surprise)|(?:not|n't) (?:only|just|merely|simply|surprising(?:ly)?)"
    r"|without (?:a |any )?(?:doubt|question)|nothing but|none other than)\b"
)
_DENIAL = re.compile(
    r"\b(?:not|never|neither|nor|no|none|cannot|without|unlike|except|isnt|arent|wasnt)\b|n't\b"
    r"|\b(?:rather than|instead of|as opposed to|other than|confused with|mistaken for|false that"
    r"|whether|wrong(?:ly)?)\b"
)
_DENIED_AFTER = re.compile(
    r"\s*(?:\([^()]*\)\s*)?"
    r"(?:(?:is|was|are|were|would be) (?:not\b|n't|wrong\b|incorrect\b|false\b)"
    r"|(?:is|was|are|were)n't\b|,? ?(?:is|was)? ?(?:ruled out|out of the question))"
)
_ARTICLE_AT_END = r"(?:an?\s+|the\s+)?$"
_OR_AFTER = re.compile(
    r"(?:\s*,\s*(?!(?:which|that|who|used|it|so|is|are|works|as|for|to|and|with)\b)"
    r"[\w'-]+(?:\s+[\w'-]+){0,3}){0,8}?\s*,?\s*\bor\s+(?:an?\s+|the\s+)?(\w+)"
)
_OR_BEFORE = re.compile(rf"\bor\s+{_ARTICLE_AT_END}")
_AND_BEFORE = re.compile(rf"\band\s+{_ARTICLE_AT_END}")
_COMMA_BEFORE = re.compile(rf",\s*{_ARTICLE_AT_END}")
_COMMA_AFTER = re.compile(r"\s*(?:\([^()]*\)\s*)?,(?!\s*(?:which|that|who|works|used)\b)")
_AND_AFTER = re.compile(r"\s*and\b")
_BULLET = re.compile(r"[ \t]*(?:[-*•]|\d+[.)])[ \t]+(?:an?\s+|the\s+)?")
_BULLETED = re.compile(r"[ \t]*(?:[-*•]|\d+[.)])[ \t]+\S")
_ITEM_WORDS = 4  # of another item in a list, at most
_MANY = 2  # other items that make a list
_MENTIONS = 20  # that are looked at; what says it oftener and never plainly does not say it
_NEAR = 400  # characters on either side of a mention in which its clause and its list are read


def says(reply: str, wanted: str) -> bool:
    """True if the reply says the wanted answer, does not deny it, and names it alone."""
    reply, wanted = _even(plain_text(reply)), _even(plain_text(wanted))
    words = _words(_CARRIER.sub("", wanted) or wanted)
    if not words:
        return reply == wanted
    if len(words) == 1 and words[0] in _POLAR:
        return _polar(reply) == words[0]
    pattern = _pattern(words)
    named = final_answer(reply)
    if named is not None and pattern.search(named):
        return not any(_denied(named, m) for m in islice(pattern.finditer(named), _MENTIONS))
    whole_list = len(_items(wanted)) > _MANY
    for match in islice(pattern.finditer(reply), _MENTIONS):
        # The first mention that settles it counts: what comes after is detail.
        if _denied(reply, match):
            return False
        listed = not whole_list and _among_others(reply, match, words)
        if not listed and not _asked(reply, match):
            return True
    return False


def _even(text: str) -> str:
    """Lower case, without accents, in one spelling, with straight quotes and single spaces."""
    parts = unicodedata.normalize("NFKD", text.replace("’", "'").casefold())
    plain = "".join(c for c in parts if not unicodedata.combining(c))
    for british, american in _SPELLINGS:
        plain = re.sub(british, american, plain)
    return re.sub(r"[^\S\n]+", " ", re.sub(r"\s*\n\s*", "\n", plain))


def _words(text: str) -> list[str]:
    words = _WORD.findall(text)
    return [word for word in words if word not in _PASSED_OVER] or words


def _pattern(words: Sequence[str]) -> re.Pattern[str]:
    """The words in order; a number is not part of a longer one."""
    parts = [_inflected(word) for word in words]
    before = r"(?<![\d][.,])" if words[0][0].isdigit() else ""
    after = r"(?![.,]\d)" if words[-1][-1].isdigit() else ""
    return re.compile(rf"(?<!\w){before}{_BETWEEN.join(parts)}(?!\w){after}")


def _inflected(word: str) -> str:
    if not word.isalpha() or len(word) < 3:
        return re.escape(word)
    if word.endswith("ies") and len(word) > 4:
        return rf"{re.escape(word[:-3])}(?:y|ies)"
    plural = len(word) > 3 and not word.endswith(("ss", "us", "is"))
    stem = word.removesuffix("s") if plural else word
    if stem.endswith("y"):
        return rf"(?:{re.escape(stem)}s?|{re.escape(stem[:-1])}ies)(?:'s)?"
    return rf"{re.escape(stem)}(?:s|es)?(?:'s)?"


def _denied(text: str, match: re.Match[str]) -> bool:
    """Is the mention denied in its own clause?"""
    near = max(0, match.start() - _NEAR)
    ends = _CLAUSE_END.finditer(text, near, match.start())
    start = max((end.end() for end in ends), default=near)
    denial = _DENIAL.search(_NO_DENIAL.sub(" ", text[start : match.start()]))
    return denial is not None or _DENIED_AFTER.match(text, match.end()) is not None


def _asked(text: str, match: re.Match[str]) -> bool:
    """Does the mention stand in a question?"""
    end = _SENTENCE_END.search(text, match.end())
    return end is not None and end[0] == "?"


def _among_others(text: str, match: re.Match[str], words: Sequence[str]) -> bool:
    """Is the mention one item of a list, or of a choice by "or"?"""
    near, far = max(0, match.start() - _NEAR), match.end() + _NEAR
    ends = _SENTENCE_END.finditer(text, near, match.start())
    start = max((end.end() for end in ends), default=near)
    stop = _SENTENCE_END.search(text, match.end(), far)
    before, after = text[start : match.start()], text[match.end() : stop.start() if stop else far]
    other = _OR_AFTER.match(after)
    # "or PPI" is another name of the same.
    if other is not None and other[1].removesuffix("s") != "".join(word[0] for word in words):
        return True
    if _OR_BEFORE.search(before):
        return True
    if _BULLET.fullmatch(text, text.rfind("\n", 0, match.start()) + 1, match.start()):
        items = [line for line in text.split("\n") if _BULLETED.match(line)]
        return sum(len(line.split()) <= _ITEM_WORDS + 2 for line in items) > _MANY
    goes_on = _COMMA_AFTER.match(after) is not None
    left = _items(before)
    last = _AND_BEFORE.search(before) is not None
    # "Omeprazole, a proton pump inhibitor, ..." says what it is.
    more = goes_on or (_AND_AFTER.match(after) is not None and _listed(_items(after)))
    middle = more and _COMMA_BEFORE.search(before) is not None and len(left) > 1
    count = len(_listed(left[::-1], first=True)) if last or middle else 0
    return count + (len(_listed(_items(after))) if goes_on else 0) >= _MANY


def _items(text: str) -> list[str]:
    parts = re.split(r",|\band\b|\bor\b|&", text)
    return [part.strip() for part in parts if part.strip()]


def _listed(items: Sequence[str], *, first: bool = False) -> list[str]:
    """The short items up to a long one; that one too, if it is the `first` of the whole list."""
    short = list(takewhile(lambda item: len(item.split()) <= _ITEM_WORDS, items))
    return [*items[: len(short) + 1]] if first else short


def _polar(text: str) -> str | None:
    """Which of yes, no, true and false a reply says."""
    said = final_answer(text) or text
    first = re.match(r"\W*(yes|no|true|false)\b", said)
    if first is not None:
        return first[1]
    found = set(re.findall(r"\b(yes|true|false)\b", said))
    return found.pop() if len(found) == 1 else None
