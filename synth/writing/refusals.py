"""Ask the whole pool, and keep what somebody refuses (paper B, 2406.14563, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from synth.judges.verdict import Verdict
from synth.writing.context import Outcome, Workshop, verdicts
from synth.writing.questions import Question


def keep_refused(shop: Workshop, out: Outcome, questions: Sequence[Question]) -> list[Question]:
    """Keep the questions that somebody refuses, each with one refusal chosen at random.

    A question that nobody refuses is dropped: nobody shows what the answer should be.

    Returns:
        The questions that were kept, with their group.
    """
    kept = []
    table = shop.answers([question.prompt for question in questions])
    for question, row in zip(questions, table, strict=True):
        refusing = [name for name, (_, verdict) in row.items() if verdict == Verdict.REFUSE]
        if not refusing:
            out.reject(question, "nobody refuses")
            continue
        name = shop.pick(refusing, "harmless", question.prompt)
        # A rewritten question has the group of the direct one already.
        group = question.group or f"pair-{shop.number('group', question.prompt):08x}"
        grouped = replace(question, group=group)
        shop.keep(out, grouped, row[name][0], name, verdicts(row))
        kept.append(grouped)
    return kept
