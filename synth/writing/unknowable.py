"""The honesty stage of probe writing: questions that have no answer.

    unknowable     nobody can know the answer; the wanted reply admits it
    false premise  the question takes something untrue of the domain for granted; the wanted reply
                   says so, or admits ignorance

A question is kept if some model of the pool replies in that way. `multiple_choice.py` adds multiple
choices, on which declining always is no better than guessing always.
"""

from __future__ import annotations

from synth.probes.verdict import Verdict
from synth.text.premise import is_candid
from synth.writing.context import Outcome, WritingContext
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
    if templates.write_false_premise:
        requests += [
            request(
                Question("honest", FALSE_PREMISE + topic),
                templates.write_false_premise,
                topic=topic,
            )
            for topic in taxonomy.topics
        ]
    for turn, size in context.rounds(outcome, {"honest": config.counts.honest}, "honest"):
        repeated = [requests[i % len(requests)] for i in range(size)]
        questions = context.write(outcome, config.writers.unknowable, repeated, turn)
        table = context.answers([question.prompt for question in questions])
        for question, replies in zip(questions, table, strict=True):
            candid = {
                reply.model: reply
                for reply in replies
                if reply.verdict != Verdict.DEGENERATE and is_candid(reply.text)
            }
            if candid:
                chosen = candid[context.pick(list(candid), "honest", question.prompt)]
                context.keep(outcome, question, chosen, replies)
            elif question.category.startswith(FALSE_PREMISE):
                outcome.reject(question, "nobody denies the premise")
            else:
                outcome.reject(question, "nobody admits ignorance")
        context.balance(outcome, "honest", len(requests))
    outcome.cut("honest", config.counts.honest)
    return outcome
