"""The safety stage of probe writing: harmful questions, refused, with their benign twins.

After Hammoud et al. 2024 (2406.14563), section 4.2: a harmful question is kept where at least one
model of the pool refuses it. Not in the paper: a reviewer must call it harmful first, and a model
that refuses whatever it is asked does not count; its twin (`benign.py`); and its other forms.
Whether a form still asks exactly the same is not checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from synth.probes.probe import Axis, Form, Probe
from synth.probes.verdict import Verdict
from synth.writing.benign import write_twins
from synth.writing.context import Reply, WritingContext
from synth.writing.outcome import Outcome
from synth.writing.questions import Question, QuestionRequest, request
from synth.writing.user_questions import own_questions
from synth.writing.witnesses import witnesses


def harmful(context: WritingContext) -> Outcome:
    """Harmful questions with a refusal, in every form, and benign twins with an answer."""
    config, outcome = context.config, Outcome()
    twins = 0 if "helpful" in config.questions else config.counts.helpful
    trusted = witnesses(context, _refuses)
    wanted: dict[Axis, int] = {"harmless": config.counts.harmless, "helpful": twins}
    for questions in _written(context, outcome, wanted):
        refused = _keep_refused(context, outcome, questions, trusted)
        if "harmless" not in config.questions:
            context.balance(outcome, "harmless", len(config.taxonomy.categories))
        if twins and "helpful" not in outcome.given_up:
            kept = {probe.prompt for probe in outcome.probes}
            write_twins(context, outcome, [q for q in refused if q.prompt in kept])
    _trim(outcome, config.counts.harmless, twins)
    _rewrite(context, outcome, trusted)
    return outcome


def _written(
    context: WritingContext, outcome: Outcome, wanted: dict[Axis, int]
) -> Iterator[list[Question]]:
    """Harmful questions, round by round, or all of the user's own."""
    config = context.config
    if "harmless" in config.questions:
        yield context.sift(outcome, own_questions(config.questions["harmless"], "harmless"))
        return
    requests = [
        request(
            Question("harmless", name),
            config.taxonomy.templates.write_harmful,
            category=name,
            description=text,
        )
        for name, text in config.taxonomy.categories.items()
    ]
    for turn, size in context.rounds(outcome, wanted, "harmless"):
        yield context.write(outcome, config.writers.harmful, requests, turn, size)


def _keep_refused(
    context: WritingContext,
    outcome: Outcome,
    questions: Sequence[Question],
    trusted: frozenset[str],
) -> list[Question]:
    """The questions that a trusted model refuses, with their group; the rest show no answer."""
    kept = []
    for question, replies in context.answers(questions):
        # A rewritten question has the group of the direct one already.
        group = question.group or f"pair-{context.seed_for('group', question.prompt):08x}"
        grouped = replace(question, group=group)

        def refused(reply: Reply) -> bool:
            return reply.model in trusted and _refuses(reply)

        if context.keep_any(outcome, grouped, replies, refused, "nobody refuses"):
            kept.append(grouped)
    return kept


def _refuses(reply: Reply) -> bool:
    return reply.verdict == Verdict.REFUSE


def _trim(outcome: Outcome, harmless: int, helpful: int) -> None:
    """Cut to the wanted counts; pairs stay whole, and come before questions without a twin."""
    twins = outcome.of("helpful")[:helpful]
    paired = {probe.group for probe in twins}
    direct = sorted(outcome.of("harmless"), key=lambda probe: probe.group not in paired)[:harmless]
    chosen = {probe.id for probe in (*direct, *twins)}
    outcome.drop([probe for probe in outcome.probes if probe.id not in chosen], "surplus")
    outcome.probes = [*direct, *twins]


def _rewrite(context: WritingContext, outcome: Outcome, trusted: frozenset[str]) -> None:
    """Add every direct question in every form of the configuration."""
    direct = outcome.of("harmless")
    for form in context.config.forms:
        stage = f"harmless, {form.replace('_', ' ')}"
        context.progress(stage, 0, len(direct))
        requests = [_form_request(context, form, probe) for probe in direct]
        rewritten = context.compose(context.config.writers.harmful, requests)
        sifted = context.sift(outcome, rewritten, rewritten=True)
        kept = _keep_refused(context, outcome, context.reviewed(outcome, sifted), trusted)
        context.progress(stage, len(kept), len(direct))


def _form_request(context: WritingContext, form: Form, probe: Probe) -> QuestionRequest:
    taxonomy = context.config.taxonomy
    draft = Question("harmless", probe.category, terms=probe.terms, group=probe.group, form=form)
    fields = {"question": probe.prompt}
    if form == "translation":
        fields["language"] = context.pick(taxonomy.languages, "language", probe.prompt)
    return request(draft, taxonomy.templates.of(form), **fields)
