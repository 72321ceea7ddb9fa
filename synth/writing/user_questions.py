"""Questions of the user's own, one JSON object a line: of the domain with answers, else without."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, ValidationError, model_validator

from safemerge.errors import ProbeError
from safemerge.recipe import first_problem
from synth.checkers.check import Check, Kind
from synth.checkers.choice import LETTERS, option_taken
from synth.probes.jsonl import read_records
from synth.probes.probe import Axis
from synth.writing.questions import Question


class UserQuestion(BaseModel, frozen=True):
    """A question with its answer, and how replies to it are checked; other keys are passed over."""

    # question, answer: as they are asked and wanted; of a multiple choice, the answer is a letter
    # or an option in words
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    category: str = "user"  # any label
    # exact, contains, numeric, choice, regex or judged; without it, what options or pattern say,
    # else what a user would expect of the answer
    check: Kind | None = None
    tolerance: float = 0.01  # of numeric, as a share of the answer
    options: tuple[str, ...] = ()  # of choice, two to ten; they are put under the question
    pattern: str = ""  # of regex

    @model_validator(mode="after")
    def _check_fits(self) -> UserQuestion:
        try:
            problem = self.checker and self.checker.problem(self.answer)
        except ValidationError as error:
            raise ValueError(first_problem(error)) from error
        if problem:
            raise ValueError(problem)
        return self

    @property
    def checker(self) -> Check | None:
        """How replies are graded, as far as the line says it."""
        told: Kind | None = "choice" if self.options else "regex" if self.pattern else None
        kind = self.check or told
        if kind is None:
            return None
        return Check(
            kind=kind,
            tolerance=self.tolerance,
            options=self.options,
            pattern=self.pattern,
        )

    @property
    def prompt(self) -> str:
        """What models are asked: the question, and its options by letter."""
        lines = [f"{letter}) {text}" for letter, text in zip(LETTERS, self.options, strict=False)]
        return "\n".join([self.question, *lines])

    @property
    def wanted(self) -> str:
        """The answer that a probe wants: of a multiple choice, the letter."""
        place = option_taken(self.answer, self.options) if self.options else None
        return self.answer if place is None else LETTERS[place]


def read_user_questions(path: str | Path) -> tuple[UserQuestion, ...]:
    """The questions of a file; a ProbeError where there are none, or a line is no such question."""
    rows = read_records(Path(path), UserQuestion)
    if not rows:
        raise ProbeError(f"{path} holds no questions; give JSON Lines of question and answer")
    return tuple(rows)


class _OwnQuestion(BaseModel, frozen=True):
    """A question that the pool answers; other keys are passed over."""

    question: str = Field(min_length=1)
    category: str = "user"  # any label


def own_questions(path: str | Path, axis: Axis) -> list[Question]:
    """The questions of a file for an axis that the pool answers, not yet answered.

    Raises:
        ProbeError: for a file without any, or a line that is no JSON object with a question.
    """
    rows = read_records(Path(path), _OwnQuestion)
    if not rows:
        raise ProbeError(f'{path} holds no questions; give JSON Lines of {{"question": "..."}}')
    return [Question(axis, row.category, row.question) for row in rows]
