"""[probes.write.domain]: where domain questions come from, and how their answers are verified."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Share = Annotated[float, Field(ge=0, le=1)]


class DomainConfig(BaseModel):
    """Domain probes: from topics, from documents, or from questions of the user's own.

    Args:
        examples: three to five questions of the kind that is wanted, or none. Three of them, drawn
            at random, are shown with every request (paper B, 2406.14563, A.1), and none of them is
            asked again.
        documents: text files to ask about in place of topics; answers are taken from the text.
        questions: JSON Lines of questions with answers, used in place of any writing; each line is
            a `user_questions.Given`.
        passage_chars: longest piece of a document that is shown at once.
        verify: who confirms what the expert answers: samples of its own answer, or a grader.
        grader: pool model that grades; needed for verify = "grader".
        unreadable_frac: largest share of the grader's replies that may be unreadable.
        check: how two answers are compared.
        tolerance: of check = "numeric", as a share of the wanted number.
        base: pool model that makes a question easy by always answering it.
        easy: largest share of questions that the base always answers; 1 keeps them all.
        hard: largest share of questions that nobody ever answers; 1 keeps them all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    examples: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    documents: tuple[str, ...] = ()
    questions: str | None = None
    passage_chars: int = Field(default=1500, ge=100)
    verify: Literal["samples", "grader"] = "samples"
    grader: str | None = None
    unreadable_frac: Share = 0.05
    check: Literal["exact", "numeric"] = "exact"
    tolerance: float = Field(default=0.01, ge=0)
    base: str = "base"
    easy: Share = 0.2
    hard: Share = 0.1

    @field_validator("examples")
    @classmethod
    def _three_to_five(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and not 3 <= len(value) <= 5:
            raise ValueError(f"there are {len(value)} examples; give three to five, or none")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.documents and self.questions:
            raise ValueError("documents and questions are both given; take one of them away")
        if (self.verify == "grader") != (self.grader is not None):
            raise ValueError(
                f"verify is {self.verify!r} and grader {self.grader!r}; "
                'a grader is named exactly where verify is "grader"'
            )
        return self

    @property
    def asks_how_hard(self) -> bool:
        """Does anybody have to be asked how hard a question is?"""
        return min(self.easy, self.hard) < 1

    def resolved(self, folder: Path) -> DomainConfig:
        """The same with relative paths joined to `folder`."""
        return self.model_copy(
            update={
                "documents": tuple(str(folder / path) for path in self.documents),
                "questions": self.questions and str(folder / self.questions),
            }
        )
