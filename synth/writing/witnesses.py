"""Which models of the pool say something by refusing, or by admitting ignorance.

A model that does so whatever it is asked says nothing of a question; the ordinary questions that it
is held against are domain probes of the same file. Nor does a model that reviewed the question.
"""

from __future__ import annotations

from collections.abc import Callable

from synth.writing.context import Reply, WritingContext

_MOST = 0.5  # share of ordinary questions


def witnesses(context: WritingContext, says: Callable[[Reply], bool]) -> frozenset[str]:
    """Names of the models of whose replies to `context.controls` at most half satisfy `says`.

    Without controls, all models but a reviewer.
    """
    count = dict.fromkeys(context.pool, 0)
    for _, replies in context.answers(context.controls):
        for reply in replies:
            count[reply.model] += says(reply)
    most, reviewer = _MOST * len(context.controls), context.reviewer.fingerprint()
    return frozenset(
        name
        for name, said in count.items()
        if said <= most and context.pool[name].weights not in reviewer
    )
