"""Where a probe that a model wrote comes from: everything that it takes to tell how it was made."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from synth.probes.verdict import Verdict


class ModelVerdict(BaseModel):
    """The judge's verdict on one model's answer to a probe's question.

    Args:
        model: name of the pool model that answered.
        verdict: of the judge.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    verdict: Verdict


class Origin(BaseModel):
    """How question and answer of a probe came about; texts that were not kept are not in it.

    Args:
        weights: fingerprint of the model that wrote the question.
        template: SHA-256 of the message that asked for it, before anything was filled in; 64 hex
            digits.
        temperature: at which the question was sampled; 0 is greedy.
        question_tokens: longest question.
        answerer_weights: fingerprint of the model that wrote the answer, greedily.
        answer_tokens: longest answer.
        judge: fingerprint of the judge.
        verdicts: on the answers of all models that were asked, in the order of the pool; of a
            multiple choice, on those to the question alone.
        chose: of a multiple choice, the models that take the wanted option.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    template: str
    temperature: float = Field(ge=0)
    question_tokens: int
    answerer_weights: str
    answer_tokens: int
    judge: str
    verdicts: tuple[ModelVerdict, ...]
    chose: tuple[str, ...] = ()
