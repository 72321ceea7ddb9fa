"""Is a reply broken: empty, looping, or hardly text at all?

What strings cannot see is fluent nonsense; that needs a model.
"""

from __future__ import annotations

import re
import unicodedata

from synth.text.reply import read_reply

_WORD = re.compile(r"\w+")
# A letter 12 times, or one to four letters or digits 16 times: "aaaa...", "hahaha...", "0000...".
_RUN = re.compile(r"([^\W\d_])\1{11}|([^\W_]{1,4}?)\2{15}")
_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
# The remains of a special token at the end, "word|...|" or "word<|...|>". Whole tokens are spared,
# and so are tables (a line that begins with "|", or a rule "---|---|"), norms and code (a space
# before the bar, or a word between the bars).
_MANGLED = re.compile(r"(?:^|\n)(?!\s*\|)[^\n]*[^\s|]<?(?:\|[^\w\s|:-]+)+\|>?\s*\Z")
_TABLE_RULE = re.compile(r"^[ |:-]*-{3,}[ |:-]*$", re.MULTILINE)
_LONGEST_LOOP = 8


def visible(text: str) -> str:
    """`text` without terminal escape sequences and characters that show nothing."""
    shown = _ESCAPE_SEQUENCE.sub("", text)
    return "".join(c for c in shown if unicodedata.category(c) != "Cf")


def is_degenerate(text: str) -> bool:
    """True for a reply that is empty, hardly text, repeats itself, or ends in a broken token."""
    marks = [c for c in _TABLE_RULE.sub("", visible(text)) if not c.isspace()]
    if not marks:
        return True
    # Letters, digits and combining marks (which make up much of Indic scripts) of any language.
    readable = sum(unicodedata.category(c)[0] in "LNM" for c in marks)
    if 2 * readable < len(marks) or _RUN.search(text) or _MANGLED.search(text):
        return True
    words = _WORD.findall(text.casefold())
    return _loops(words) or _recycles(words)


def is_broken(reply: str, *, cut_short: bool = False) -> bool:
    """True for a reply whose answer is degenerate, or that ends inside its thinking.

    Args:
        cut_short: the reply was stopped early on purpose; where it was still thinking then, it is
            the thinking that is looked at.
    """
    read = read_reply(reply)
    if cut_short and not read.answer:
        return is_degenerate(read.thinking)
    return read.cut_off or is_degenerate(read.answer)


def _loops(words: list[str]) -> bool:
    """Does a block of 1 to 8 words repeat at once, 4 times (1 word) or 3 times, for half the text?

    "No, no, no, no." is a loop of its own; "very, very, very big" is not.
    """
    for size in range(1, _LONGEST_LOOP + 1):
        repeats = 4 if size == 1 else 3
        run = 0
        for at in range(size, len(words)):
            run = run + 1 if words[at] == words[at - size] else 0
            covered = run + size
            if covered >= repeats * size and 2 * covered >= len(words):
                return True
            if covered >= 8 * size and covered >= 16:
                return True
    return False


def _recycles(words: list[str]) -> bool:
    """In a longer text, are most three-word sequences repeats of earlier ones?"""
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return len(triples) >= 24 and len(set(triples)) < 0.4 * len(triples)
