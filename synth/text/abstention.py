"""Does a reply leave a question unanswered, in whatever words?"""

from __future__ import annotations

from synth.text.premise import is_candid
from synth.text.refusal import refusal_in


def abstains(text: str) -> bool:
    """True for a reply that admits ignorance, denies the question's premise, or declines."""
    return is_candid(text) or refusal_in(text) == "whole"
