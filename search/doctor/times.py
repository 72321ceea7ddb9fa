"""Seconds of a search by stage: what it does, times how long each of it takes here."""

from __future__ import annotations

from dataclasses import dataclass

from search.doctor.rates import Timings
from search.doctor.work import SENTINEL_TOKENS, Asked, Work


@dataclass(frozen=True, slots=True)
class Times:
    """Wall seconds."""

    prepare: float  # models, judge and merge, and what base and sources say at the start
    warm_start: float
    trials: float
    answers: float  # replies, verdicts and likelihoods before the pick
    heldout: float  # the held-out table
    trial: float  # one trial
    step: float  # one step of the warm start

    @property
    def total(self) -> float:
        return self.prepare + self.warm_start + self.trials + self.answers + self.heldout


def search_times(work: Work, rates: Timings, workers: int = 1) -> Times:
    """The stages of a search, trials shared by workers with a device each.

        evaluate(S) = token * tokens(S) + replies(sentinels)
        replies(S)  = prefill * tokens(S) + n * (calls(S) * step + prompts(S) * row)
        trial       = apply + evaluate(search) + divergence
        step        = apply + 3 * token * tokens + projections, of all groups of probes

    with n the tokens of a reply. A backward pass takes two forward ones, three where activations
    are computed again.
    """

    def replies(asked: Asked, tokens: int) -> float:
        each = asked.chat_calls * rates.step_s + asked.prompts * rates.row_s
        return rates.prefill_token_s * asked.chat_tokens + tokens * each

    def answered(asked: Asked) -> float:
        most = work.reply_tokens
        tokens = most if rates.reply_tokens is None else min(most, rates.reply_tokens)
        return replies(asked, tokens) + rates.judge_s * asked.prompts

    def evaluated(asked: Asked) -> float:
        if not asked.prompts:
            return 0.0
        return rates.token_s * asked.score_tokens + replies(work.sentinels, SENTINEL_TOKENS)

    divergence = rates.divergence_s * work.general.prompts
    general = answered(work.general) + divergence
    trial = rates.apply_s + evaluated(work.search) + divergence
    passes = 4.0 if rates.recomputes else 3.0
    step = rates.apply_s + rates.projection_s * work.groups
    step += rates.token_s * (passes * work.stepped.score_tokens + work.validation.score_tokens)
    models = work.models * (rates.apply_s + general + evaluated(work.search))
    asked = work.answered_prompts
    rows = work.models + work.plain + work.points
    heldout = rows * (rates.apply_s + answered(work.heldout) + general)
    heldout += work.points * evaluated(work.heldout)
    heldout += work.grid * trial + work.plain * rates.prepare_plain_s
    near = work.answered * (2 * rates.apply_s + general + evaluated(work.validation))
    near += (work.models + work.answered) * (rates.apply_s + answered(asked))
    return Times(
        prepare=rates.load_s + rates.prepare_s + models,
        warm_start=work.steps * step,
        trials=work.trials * trial / workers,
        answers=near if work.answered else 0.0,
        heldout=heldout if work.heldout.prompts else 0.0,
        trial=trial,
        step=step,
    )
