"""How replies to one question are checked.

What is checked is the answer of a reply, without its thinking and its markup. A check of the kind
`judged` cannot be answered by text alone; see `synth.grading`.
"""

from __future__ import annotations

from typing import Literal, Self

import regex
from pydantic import BaseModel, Field, model_validator

from synth.checkers.choice import LETTERS, option_taken, same_option
from synth.checkers.contains import says
from synth.checkers.numeric import number_in, same_number
from synth.checkers.pattern import compiled, matches
from synth.text.markup import plain_text
from synth.text.normalise import normalise
from synth.text.reply import read_reply

Kind = Literal["exact", "contains", "numeric", "choice", "regex", "judged"]


class Check(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A checker and what it needs."""

    # exact: the same text, up to case, punctuation and white space; contains: the answer is said,
    # among other words; numeric: the same number; choice: the same option; regex: the pattern is
    # found; judged: what the axis wants, by a judge or a grader
    kind: Kind = "exact"
    tolerance: float = Field(default=0.01, ge=0)  # of numeric, as a share of the wanted number
    options: tuple[str, ...] = ()  # of choice, two to ten
    pattern: str = ""  # of regex, written by a user and never by a model

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if (self.kind == "choice") != bool(self.options):
            raise ValueError("options belong to the check 'choice', and it needs them")
        if self.options and (
            not 2 <= len(self.options) <= len(LETTERS)
            or len(set(map(normalise, self.options))) < len(self.options)
        ):
            raise ValueError(f"there must be 2 to {len(LETTERS)} different options")
        if (self.kind == "regex") != bool(self.pattern):
            raise ValueError("a pattern belongs to the check 'regex', and it needs one")
        if self.pattern:
            try:
                compiled(self.pattern)
            except regex.error as error:
                raise ValueError(f"the pattern {self.pattern!r} is not valid: {error}") from error
        return self

    def right(self, reply: str, wanted: str) -> bool | None:
        """Is a reply right, given the wanted answer?

        None where that cannot be told: the pattern took too long, or the check is `judged`.
        """
        answer = read_reply(reply).answer
        if self.kind == "judged":
            return None
        if self.kind == "numeric":
            return same_number(answer, wanted, tolerance=self.tolerance)
        if self.kind == "choice":
            return same_option(answer, wanted, self.options)
        if self.kind == "regex":
            return matches(answer, self.pattern)
        if self.kind == "contains":
            return says(answer, wanted)
        return normalise(plain_text(answer)) == normalise(plain_text(wanted))

    def problem(self, wanted: str) -> str | None:
        """Why the check can say nothing about this wanted answer; None where it can."""
        answer = f"the answer {wanted[:60]!r}"
        if self.kind == "numeric" and number_in(wanted) is None:
            return f"{answer} has no number, which the check 'numeric' needs"
        if self.kind == "choice" and option_taken(wanted, self.options) is None:
            return f"{answer} is none of the {len(self.options)} options of the check 'choice'"
        if self.kind == "regex":
            found = matches(wanted, self.pattern)
            if found is None:
                return f"the pattern {self.pattern[:60]!r} takes too long on {answer} itself"
            if not found:
                return f"{answer} itself does not match the pattern {self.pattern[:60]!r}"
        if self.kind == "contains" and not says(wanted, wanted):
            return f"{answer} itself does not pass the check 'contains'"
        return None
