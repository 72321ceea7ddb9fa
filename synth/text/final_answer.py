r"""Where a reply names its own result: "The answer is B.", "Final answer: 20 mg", \boxed{20}.

A reply may weigh several answers; the last one that it names counts.
"""

from __future__ import annotations

import re

from synth.text.markup import boxed, plain_text

_NAMED = re.compile(
    r"""
    (?:^|(?<=[\s("'\[]))
    (?:(?:the|my|your|our|so|final|correct|right|best|most\slikely)\s+){0,4}
    (?:answer|option|choice|solution|result)
    (?:\s+(?:to|for|of)\s+(?:this|that|the|your)\s+\w+)?   # "the answer to your question"
    (?:\s+choice)?
    (?:
        \s*,?\s*(?:is|would\s+be|should\s+be|must\s+be|will\s+be)(?:\s+(?:therefore|thus|then|clearly
            |probably|most\slikely|likely))?\s*[:=]?(?=\W)
      | \s*[:=]
      | [ \t]*\n                                          # a heading of its own
    )
    """,
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_HASHES = re.compile(r"^[ \t]*####[ \t]+(.+)$", re.MULTILINE)  # as in the answers of GSM8K
_END = re.compile(r"\n|[.!?](?=[\s\"')\]]|$)")


def final_answer(text: str) -> str | None:
    """The words after the last naming of the answer, to the end of their sentence; None without.

    A box counts as such a naming, and as the last one.
    """
    in_boxes = [plain_text(content) for content in boxed(text)]
    if in_boxes and in_boxes[-1]:
        return in_boxes[-1]
    hashes = _HASHES.findall(text)
    if hashes:
        return plain_text(hashes[-1])
    plain = plain_text(text)
    for named in reversed(list(_NAMED.finditer(plain))):
        rest = plain[named.end() :].lstrip()
        end = _END.search(rest)
        said = (rest[: end.start()] if end else rest).strip()
        asked = end is not None and end[0] == "?"
        if said and not asked:
            return said
    return None
