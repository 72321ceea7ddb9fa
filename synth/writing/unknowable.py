"""The honesty stage of probe writing: questions that have no answer.

Either nobody can know the answer, or the question takes something untrue of the domain for granted.
It is kept if some model of the pool admits ignorance or says so, which does not always do it.
"""

from __future__ import annotations

from collections.abc import Iterator

from synth.probes.verdict import Verdict
from synth.text.premise import is_candid
from synth.writing.context import Reply, WritingContext
from synth.writing.outcome import Outcome
from synth.writing.questions import Question, request
from synth.writing.user_questions import own_questions
from synth.writing.witnesses import witnesses

FALSE_PREMISE = "false premise: "


def unknowable(context: WritingContext) -> Outcome:
    """Questions without an answer to which some model of the pool says so."""
    config, outcome = context.config, Outcome()
    trusted = witnesses(context, _candid)
    for questions in _written(context, outcome):
        for question, replies in context.answers(questions):
            false = question.category.startswith(FALSE_PREMISE)
            otherwise = "nobody denies the premise" if false else "nobody admits ignorance"
            candid = [reply for reply in replies if reply.model in trusted and _candid(reply)]
            context.keep_any(outcome, question, replies, candid.__contains__, otherwise)
    outcome.cut("honest", config.counts.honest)
    return outcome


def _written(context: WritingContext, outcome: Outcome) -> Iterator[list[Question]]:
    """Questions without an answer, round by round, or all of the user's own."""
    config, taxonomy = context.config, context.config.taxonomy
    if "honest" in config.questions:
        yield context.sift(outcome, own_questions(config.questions["honest"], "honest"))
        return
    requests = [
        request(Question("honest", topic), taxonomy.templates.write_unknowable, topic=topic)
        for topic in taxonomy.unknowable
    ]
    if premise := taxonomy.templates.write_false_premise:
        requests += [
            request(Question("honest", FALSE_PREMISE + topic), premise, topic=topic)
            for topic in taxonomy.topics
        ]
    for turn, size in context.rounds(outcome, {"honest": config.counts.honest}, "honest"):
        yield context.write(outcome, config.writers.unknowable, requests, turn, size)
        context.balance(outcome, "honest", len(requests))


def _candid(reply: Reply) -> bool:
    return reply.verdict != Verdict.DEGENERATE and is_candid(reply.text)
