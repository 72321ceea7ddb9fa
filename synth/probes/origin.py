"""Where a probe that a model wrote comes from: everything that it takes to tell how it was made."""

from __future__ import annotations

from pydantic import BaseModel, Field

from synth.probes.verdict import Verdict

UNREVIEWED = "none"


class ModelVerdict(BaseModel, frozen=True, extra="forbid"):
    """The judge's verdict on one model's answer to a probe's question."""

    model: str  # name of the pool model that answered
    verdict: Verdict  # of the judge


class Origin(BaseModel, frozen=True, extra="forbid"):
    """How question and answer of a probe came about; texts that were not kept are not in it."""

    # fingerprint of the model that wrote the question, or "user"
    weights: str
    # SHA-256 of the message that asked for it, before anything was filled in; 64 hex digits
    template: str
    temperature: float = Field(ge=0)  # at which the question was sampled; 0 is greedy
    question_tokens: int  # longest question
    answerer_weights: str  # fingerprint of the model that wrote the answer, greedily
    answer_tokens: int  # longest answer
    judge: str  # fingerprint of the judge
    # on the answers of all models that were asked, in the order of the pool; of a multiple choice,
    # on those to the question alone
    verdicts: tuple[ModelVerdict, ...]
    # fingerprint of the reviewer that called the question what its axis says; "none" where nobody
    # read it, None where that is not known: of a user's question, or in a file of an older version
    reviewer: str | None = None
    chose: tuple[str, ...] = ()  # of a multiple choice, the models that take the wanted option
