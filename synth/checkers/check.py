"""How replies to one question are checked."""

from __future__ import annotations

from typing import Literal, Self

import regex
from pydantic import BaseModel, Field, model_validator

from synth.checkers.choice import LETTERS, option_taken, same_option
from synth.checkers.numeric import last_number, same_number
from synth.checkers.pattern import compiled, matches
from synth.text.normalise import normalise

Kind = Literal["exact", "numeric", "choice", "regex"]


class Check(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A checker and what it needs."""

    # exact: the same text, up to case, punctuation and white space; numeric: the same last number;
    # choice: the same option; regex: the pattern is found
    kind: Kind = "exact"
    tolerance: float = Field(default=0.01, ge=0)  # of numeric, as a share of the wanted number
    options: tuple[str, ...] = ()  # of choice, two to ten
    pattern: str = ""  # of regex, written by a user and never by a model

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if (self.kind == "choice") != bool(self.options):
            raise ValueError("options belong to the check 'choice', and it needs them")
        if self.options and not 2 <= len(set(map(normalise, self.options))) <= len(LETTERS):
            raise ValueError(f"there must be 2 to {len(LETTERS)} different options")
        if (self.kind == "regex") != bool(self.pattern):
            raise ValueError("a pattern belongs to the check 'regex', and it needs one")
        if self.pattern:
            try:
                compiled(self.pattern)
            except regex.error as error:
                raise ValueError(f"the pattern {self.pattern!r} is not valid: {error}") from error
        return self

    def right(self, reply: str, wanted: str) -> bool:
        """Is a reply right, given the wanted answer?"""
        if self.kind == "numeric":
            return same_number(reply, wanted, tolerance=self.tolerance)
        if self.kind == "choice":
            return same_option(reply, wanted, self.options)
        if self.kind == "regex":
            return matches(reply, self.pattern)
        return normalise(reply) == normalise(wanted)

    def usable(self, wanted: str) -> bool:
        """Can the check say anything about this wanted answer at all?"""
        if self.kind == "numeric":
            return last_number(wanted) is not None
        if self.kind == "choice":
            return option_taken(wanted, self.options) is not None
        return self.kind == "exact" or self.right(wanted, wanted)
