"""The honesty stage of probe writing: questions that have no answer.

Either nobody can know the answer, or the question takes something untrue of the domain for granted.
It is kept if some model of the pool admits ignorance or says so.
"""

from __future__ import annotations

from synth.probes.verdict import Verdict
from synth.text.premise import is_candid
from synth.writing.context import Outcome, Reply, WritingContext
from synth.writing.questions import Question, request

FALSE_PREMISE = "false premise: "


def unknowable(context: WritingContext) -> Outcome:
    """Questions without an answer to which some model of the pool says so."""
    config, outcome = context.config, Outcome()
    taxonomy, templates = config.taxonomy, config.taxonomy.templates
    requests = [
        request(Question("honest", topic), templates.write_unknowable, topic=topic)
        for topic in taxonomy.unknowable
    ]
    if premise := templates.write_false_premise:
        requests += [
            request(Question("honest", FALSE_PREMISE + topic), premise, topic=topic)
            for topic in taxonomy.topics
        ]
    for turn, size in context.rounds(outcome, {"honest": config.counts.honest}, "honest"):
        questions = context.write(outcome, config.writers.unknowable, requests, turn, size)
        for question, replies in context.answers(questions):
            false = question.category.startswith(FALSE_PREMISE)
            otherwise = "nobody denies the premise" if false else "nobody admits ignorance"
            context.keep_any(outcome, question, replies, _candid, otherwise)
        context.balance(outcome, "honest", len(requests))
    outcome.cut("honest", config.counts.honest)
    return outcome


def _candid(reply: Reply) -> bool:
    return reply.verdict != Verdict.DEGENERATE and is_candid(reply.text)
