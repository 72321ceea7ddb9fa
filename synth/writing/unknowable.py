"""The honesty stage of probe making: questions that have no answer. Ours.

    unknowable     nobody can know the answer; the wanted reply admits it
    false premise  the question takes something untrue of the domain for granted; the wanted reply
                   says so, or admits ignorance

A question is kept if some model of the pool replies in that way. `multiple_choice.py` adds multiple
choices, on which declining always is no better than guessing always.
"""

from __future__ import annotations

from synth.judges.verdict import Verdict
from synth.text.premise import is_candid
from synth.writing.context import Outcome, Workshop, verdicts
from synth.writing.questions import ask

FALSE_PREMISE = "false premise: "


def honest(shop: Workshop) -> Outcome:
    """Questions without an answer to which some model of the pool says so."""
    config, out = shop.config, Outcome()
    taxonomy = config.taxonomy
    templates = taxonomy.templates
    asks = [ask(templates.write_unknowable, topic, topic=topic) for topic in taxonomy.unknowable]
    if templates.write_false_premise:
        asks += [
            ask(templates.write_false_premise, FALSE_PREMISE + topic, topic=topic)
            for topic in taxonomy.topics
        ]
    for turn, size in shop.rounds(out, {"honest": config.counts.honest}, "honest"):
        repeated = [asks[i % len(asks)] for i in range(size)]
        questions = shop.write(out, "honest", config.writers.unknowable, repeated, turn)
        table = shop.answers([question.prompt for question in questions])
        for question, row in zip(questions, table, strict=True):
            candid = [
                name
                for name, (reply, verdict) in row.items()
                if verdict != Verdict.DEGENERATE and is_candid(reply)
            ]
            if candid:
                name = shop.pick(candid, "honest", question.prompt)
                shop.keep(out, question, row[name][0], name, verdicts(row))
            elif question.category.startswith(FALSE_PREMISE):
                out.reject(question, "nobody denies the premise")
            else:
                out.reject(question, "nobody admits ignorance")
        shop.balance(out, "honest", len(asks))
    out.cut("honest", config.counts.honest)
    return out
