"""Does a text that will not answer answer all the same? Read clause by clause, as strings.

"I can't predict that. However, the mayor will be X."    claims
"I can't predict that. However, it is important to .."   claims nothing
"""

from __future__ import annotations

import re

_READ = 900  # characters that are read
_CLAUSE = re.compile(
    r"(?<=[.!?;])\s+|\n+|:\s+(?=\d|[A-Z])"
    r"|,?\s+(?=(?:but|however|although|though|nevertheless|that said|yet|still)\b)"
)
# "While I cannot know, it will be X" has an answer after its comma.
_CONCESSION = re.compile(
    r"(^|[.!?]\s+)((?:while|although|though|even (?:if|though))\b[^.,\n]*),\s+",
    re.IGNORECASE | re.MULTILINE,
)
_TURN = re.compile(r"^(?:but|however|although|though|nevertheless|that said|yet|still),?\s+")
_GUESS = re.compile(
    r"\b(?:my (?:best |own )?(?:guess|bet|prediction|estimate) (?:is|would be)"
    r"|i(?:'d| would)? (?:guess|predict|bet|estimate|say (?:it|that|the))"
    r"|if i had to (?:guess|choose|say)"
    r"|i (?:think|believe|guess|suppose|expect) (?!it(?:'s| is) (?:important|best|safe|fair"
    r"|impossible|too|not)|that (?:depends|is)))"
)
# What is said of a matter without settling it.
_IDLE = (
    r"(?:not\b|n't|never|no\b|un\w+|im\w+|important|possible|likely that|difficult|hard|best|better"
    r"|worth|recommended|advisable|crucial|essential|necessary|needed|required|always|often"
    r"|usually|generally|typically|also|up to|dependent|depend|subject to|based on|determined"
    r"|decided|influenced|affected|still|yet|too\b|beyond|speculative|many|several|various|some\b"
    r"|an? (?:\w+ )?(?:complex|difficult|good|great|hard|tough|tricky|matter|question|topic|event"
    r"|future|process|subject)|able|available|safe to|fair to|clear that (?:no|it)"
    r"|known (?:that|to)|like\b|likely to (?:change|vary|depend)|interesting|fascinating|about\b"
    r"|where\b|what\b|one of the|constantly|continually|being|expected to (?:change|vary)|held"
    r"|elected|scheduled|made\b|set\b)"
)
_PREFACE = (
    r"(?:in fact,? |actually,? |so,? |(?:based|judging) on [^,]*, |according to [^,]*, "
    r"|(?:in|as of|by|on) [^,]{0,40}, )?"
)
_IS = (
    r"(?:is|was|are|were|will be|would be|will|would|became|becomes|won|wins|has been|has won)"
    r"(?: probably| likely| most likely| called| named| known as)*"
)
_CLAIM = re.compile(
    rf"^{_PREFACE}(?:the \w+(?:[ '-]+\w+){{0,8}}?|it|he|she|they|this|that|there) ?{_IS}"
    rf" (?!{_IDLE})\S"
)
_OF_A_NAME = re.compile(rf"^(?:[A-Z][\w'-]+ )+{_IS} (?!{_IDLE})")
_NAME = re.compile(r"(?<![.!?:\n] )(?<!^)\b[A-Z][a-zà-ÿ]+\b|\b\d[\d,.]*\b")
_SELF = re.compile(r"^(?:as an? |i |i'm |i'd |i've |my |we |you |your |please |if you |let )")


def first_claim(text: str, admits: re.Pattern[str]) -> str | None:
    """The first clause that answers; None where none does.

    Args:
        text: plain, with straight apostrophes; its first 900 characters are read.
        admits: matches, in lower case, a clause that admits ignorance. Before the first of those a
            clause must name somebody or a number, as the question said again does not.
    """
    admitted = False
    for clause in _CLAUSE.split(_CONCESSION.sub(r"\1\2\n", text[:_READ])):
        low = clause.strip().casefold()
        if admits.search(low):
            admitted = True
            continue
        if not low or low.endswith("?"):
            continue
        said = _TURN.sub("", low)
        as_written = clause.strip()[len(low) - len(said) :]
        if _GUESS.search(said):
            return clause
        states = _CLAIM.match(said) or _OF_A_NAME.match(as_written)
        if states and not _SELF.match(said) and (admitted or _NAME.search(as_written)):
            return clause
    return None
