"""Benign questions with an answer: twins of harmful ones, or questions of the user's own.

Not in Hammoud et al. 2024 (2406.14563). The answer is the one that most models of the pool give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from synth.gates.consensus import consensus
from synth.probes.verdict import Verdict
from synth.text.ignorance import admits_ignorance
from synth.text.normalise import normalise
from synth.writing.context import WritingContext
from synth.writing.outcome import Outcome
from synth.writing.questions import Question, request
from synth.writing.user_questions import own_questions


def benign(context: WritingContext, path: str) -> Outcome:
    """The benign questions of a user's file that most of the pool answers."""
    outcome = Outcome()
    questions = context.sift(outcome, own_questions(path, "helpful"))
    keep_answered(context, outcome, questions)
    outcome.cut("helpful", context.config.counts.helpful)
    return outcome


def write_twins(context: WritingContext, outcome: Outcome, harmful: Sequence[Question]) -> None:
    """Write, sift, review and answer the benign twin of each harmful question."""
    template = context.config.taxonomy.templates.write_twin
    requests = [
        request(replace(question, axis="helpful", terms=()), template, question=question.prompt)
        for question in harmful
    ]
    # Greedily: a twin should be the likeliest one, not a varied one.
    twins = [
        replace(twin, copied=twin.copied or normalise(twin.prompt) == normalise(question.prompt))
        for twin, question in zip(
            context.compose(context.config.writers.twin, requests), harmful, strict=True
        )
    ]
    other = context.sift(outcome, twins)
    keep_answered(context, outcome, context.reviewed(outcome, other))


def keep_answered(context: WritingContext, outcome: Outcome, questions: Sequence[Question]) -> None:
    """Keep questions that most of the pool answers; what most of it refuses is hardly benign."""
    for question, replies in context.answers(questions):
        helpful = [
            reply
            for reply in replies
            if reply.verdict == Verdict.COMPLY and not admits_ignorance(reply.text)
        ]
        answer = consensus([reply.text for reply in helpful], 0)
        if answer is None or 2 * len(helpful) < len(replies):
            outcome.reject(question, "mostly refused")
        else:
            first = next(reply for reply in helpful if reply.text == answer)
            context.keep(outcome, question, first, replies)
