"""[probes.write]: how many probes of each axis, who writes them, how answers are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from synth.gates.config import GateConfig
from synth.probes.probe import Axis
from synth.writing.taxonomy import Taxonomy, default_taxonomy, load_taxonomy

Count = Annotated[int, Field(ge=0, le=100_000)]  # more is a slip, and would run for months
OwnAxis = Literal["harmless", "helpful", "honest"]
Rewritten = Literal["translation", "role_play", "hypothetical"]
Share = Annotated[float, Field(ge=0, le=1)]


class Counts(BaseModel, frozen=True, extra="forbid"):
    """Probes wanted for each axis; 0 leaves an axis out."""

    # domain, harmless, helpful, honest: helpful at most harmless, because each helpful probe is the
    # twin of a harmful one, unless the user brings benign questions
    domain: Count = 128
    harmless: Count = 128
    helpful: Count = 128
    honest: Count = 128
    # multiple choices on the honest axis besides, an even number: half of them have an answer,
    # which takes domain probes, and half have none, which takes honest ones
    choices: Count = 0

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        if self.choices % 2:
            raise ValueError(
                f"choices is {self.choices}; half of them have an answer, so it must be even"
            )
        if self.choices > 2 * min(self.domain, self.honest):
            raise ValueError(
                f"choices is {self.choices}, domain {self.domain} and honest {self.honest}; half "
                "of the choices are made of domain probes and half of honest ones, so choices can "
                "be at most twice the smaller of the two"
            )
        return self

    def of(self, axis: Axis) -> int:
        """The count of one axis."""
        return int(getattr(self, axis))


class Writers(BaseModel, frozen=True, extra="forbid"):
    """Names of the pool models that write questions."""

    domain: str  # the expert; it answers its own questions too
    harmful: str  # an uncensored model
    twin: str  # rewrites a harmful question into a benign one
    unknowable: str  # writes questions without a known answer


class DomainConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """[probes.write.domain]: from topics, from documents, or from questions of the user's own."""

    # three to five questions of the kind that is wanted, or none. Three of them, drawn at random,
    # are shown with every request (Hammoud et al. 2024, appendix A.1), and none is asked again.
    examples: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    # text files to ask about in place of topics; answers are taken from the text
    documents: tuple[str, ...] = ()
    # JSON Lines of questions with answers, used in place of any writing; each line is a
    # `user_questions.UserQuestion`
    questions: str | None = None
    # longest piece of a document that is shown at once
    passage_chars: int = Field(default=1500, ge=100)
    # who confirms what the expert answers: samples of its own answer, or a grader
    verify: Literal["samples", "grader"] = "samples"
    grader: str | None = None  # pool model that grades; needed for verify = "grader"
    unreadable_frac: Share = 0.05  # largest share of the grader's replies that may be unreadable
    # how replies are graded, while writing and ever after: it is kept with each probe
    check: Literal["exact", "contains", "numeric", "judged"] = "exact"
    # of check = "numeric", as a share of the wanted number
    tolerance: float = Field(default=0.01, ge=0)
    base: str = "base"  # pool model that makes a question easy by always answering it
    easy: Share = 0.2  # largest share of questions that the base always answers; 1 keeps them all
    hard: Share = 0.1  # largest share of questions that nobody ever answers; 1 keeps them all

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
        if self.check == "judged" and self.grader is None:
            raise ValueError(
                'check is "judged" and nobody is named who reads the answers; set verify = '
                '"grader" and grader, or choose the check exact, contains or numeric'
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


class ProbeConfig(BaseModel, frozen=True, extra="forbid"):
    """[probes.write]; defaults are those of Hammoud et al. 2024 (2406.14563) where it has any."""

    writers: Writers  # who writes; names of pool models
    counts: Counts = Counts()  # probes wanted for each axis
    # topics, categories and templates, or the path of a TOML file that holds them
    taxonomy: Taxonomy = Field(default_factory=default_taxonomy)
    # of question writing, in (0, 2]; 0.8 in the paper
    question_temperature: float = Field(default=0.8, gt=0, le=2)
    question_tokens: int = Field(default=64, ge=1)  # longest question
    answer_tokens: int = Field(default=64, ge=1)  # longest answer; 512 in the paper
    # temperature samples that check a domain answer, at least 1
    samples: int = Field(default=4, ge=1)
    sample_temperature: float = Field(default=0.7, gt=0, le=2)  # of those samples, in (0, 2]
    # share of the samples that must equal the greedy domain answer, in [0, 1]
    agreement: Share = 0.75
    # JSON Lines of {"question", "category"}, by axis: questions of the user's own in place of any
    # writing; the pool answers them. Those of the domain are in `domain.questions`.
    questions: dict[OwnAxis, str] = Field(default={})
    # who reads every written question before it is answered, by name: a judge that can tell from a
    # question alone whether it is harmful, "rubric=MODEL", or "none"; of several, each axis is read
    # by the first that can; None is the judge itself and, for what it cannot read, the base
    reviewer: str | tuple[str, ...] | None = None
    # where domain questions come from, and how their answers are verified
    domain: DomainConfig = DomainConfig()
    gates: GateConfig = GateConfig()  # what a question must be like
    rounds: int = Field(default=12, ge=1)  # most rounds of question writing for an axis, at least 1
    # messages that a model is asked at once, at least 1; a kill loses at most one batch
    batch: int = Field(default=256, ge=1)
    # in which every harmful question is written besides the direct one; beyond `counts`
    forms: tuple[Rewritten, ...] = ()

    @property
    def reviewers(self) -> tuple[str, ...]:
        """The names in `reviewer`."""
        named = self.reviewer
        return () if named is None else (named,) if isinstance(named, str) else named

    def brings(self, axis: Axis) -> bool:
        """Whether the user brings the questions of an axis."""
        return axis in self.questions or (axis == "domain" and self.domain.questions is not None)

    def own_key(self, axis: Axis) -> str:
        """The key, of this section, of a file with the user's own questions."""
        return "domain.questions" if axis == "domain" else f"questions.{axis}"

    def wanted(self, axis: Axis) -> int:
        """Probes of an axis in all: with the harmful ones in other forms, and the choices."""
        more = self.counts.choices if axis == "honest" else 0
        return self.counts.of(axis) * (1 + len(self.forms) if axis == "harmless" else 1) + more

    @model_validator(mode="after")
    def _twins_have_a_partner(self) -> Self:
        helpful, harmless = self.counts.helpful, self.counts.harmless
        if helpful > harmless and "helpful" not in self.questions:
            raise ValueError(
                f"counts.helpful is {helpful} and counts.harmless {harmless}; every helpful probe "
                "is the twin of a harmful one, so helpful can be at most harmless; or name a file "
                "of benign questions in questions.helpful"
            )
        return self

    @model_validator(mode="after")
    def _forms_can_be_written(self) -> Self:
        for form in self.forms:
            if self.forms.count(form) > 1:
                raise ValueError(f"forms names {form!r} twice; name it once")
            if not self.taxonomy.templates.of(form):
                raise ValueError(
                    f"forms names {form!r}, but the taxonomy has no templates.write_{form}; add it"
                )
        if "translation" in self.forms and not self.taxonomy.languages:
            raise ValueError(
                "forms names 'translation', but the taxonomy has no languages; add them"
            )
        return self

    def resolved(self, folder: Path) -> ProbeConfig:
        """The same with relative paths of the user's files joined to `folder`."""
        files = tuple(str(folder / path) for path in self.gates.benchmarks)
        gates = self.gates.model_copy(update={"benchmarks": files})
        own = {axis: str(folder / path) for axis, path in self.questions.items()}
        return self.model_copy(
            update={"gates": gates, "domain": self.domain.resolved(folder), "questions": own}
        )

    @field_validator("taxonomy", mode="before")
    @classmethod
    def _read_file(cls, value: Any) -> Any:
        return load_taxonomy(value) if isinstance(value, str | Path) else value
