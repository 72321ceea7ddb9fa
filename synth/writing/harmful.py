"""The safety stage of probe writing: harmful questions, refused, and benign twins, answered.

After Hammoud et al. 2024 (2406.14563), section 4.2: a harmful question is kept where at least one
model of the pool refuses it. Not in the paper: its benign twin, with the answer that most models
give, and its other forms; a rewrite that has lost the harm is refused by nobody, and is dropped.
Whether one still asks exactly the same is not checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from synth.gates.consensus import consensus
from synth.probes.probe import Axis, Form, Probe
from synth.probes.verdict import Verdict
from synth.text.ignorance import admits_ignorance
from synth.writing.context import Outcome, Reply, WritingContext
from synth.writing.questions import Question, QuestionRequest, request


def harmful(context: WritingContext) -> Outcome:
    """Harmful questions with a refusal, in every form, and benign twins with an answer."""
    counts, taxonomy, outcome = context.config.counts, context.config.taxonomy, Outcome()
    template = taxonomy.templates.write_harmful
    requests = [
        request(Question("harmless", name), template, category=name, description=text)
        for name, text in taxonomy.categories.items()
    ]
    wanted: dict[Axis, int] = {"harmless": counts.harmless, "helpful": counts.helpful}
    for turn, size in context.rounds(outcome, wanted, "harmless"):
        questions = context.write(outcome, context.config.writers.harmful, requests, turn, size)
        refused = _keep_refused(context, outcome, questions)
        context.balance(outcome, "harmless", len(requests))
        if counts.helpful:
            kept = {probe.prompt for probe in outcome.probes}
            _write_twins(context, outcome, [q for q in refused if q.prompt in kept])
    _trim(outcome, counts.harmless, counts.helpful)
    _rewrite(context, outcome)
    return outcome


def _keep_refused(
    context: WritingContext, outcome: Outcome, questions: Sequence[Question]
) -> list[Question]:
    """The questions that somebody refuses, with their group; the rest have no answer to show."""
    kept = []
    for question, replies in context.answers(questions):
        # A rewritten question has the group of the direct one already.
        group = question.group or f"pair-{context.seed_for('group', question.prompt):08x}"
        grouped = replace(question, group=group)
        if context.keep_any(outcome, grouped, replies, _refuses, "nobody refuses"):
            kept.append(grouped)
    return kept


def _refuses(reply: Reply) -> bool:
    return reply.verdict == Verdict.REFUSE


def _write_twins(context: WritingContext, outcome: Outcome, refused: Sequence[Question]) -> None:
    """Write, sift and answer the benign twin of each harmful question."""
    template = context.config.taxonomy.templates.write_twin
    requests = [
        request(replace(question, axis="helpful", terms=()), template, question=question.prompt)
        for question in refused
    ]
    # Greedily: a twin should be the likeliest one, not a varied one.
    twins = context.sift(outcome, context.compose(context.config.writers.twin, requests))
    for twin, replies in context.answers(twins):
        helpful = [
            reply
            for reply in replies
            if reply.verdict == Verdict.COMPLY and not admits_ignorance(reply.text)
        ]
        answer = consensus([reply.text for reply in helpful], 0)
        # What most of the pool refuses is hardly benign.
        if answer is None or 2 * len(helpful) < len(replies):
            outcome.reject(twin, "mostly refused")
        else:
            first = next(reply for reply in helpful if reply.text == answer)
            context.keep(outcome, twin, first, replies)


def _trim(outcome: Outcome, harmless: int, helpful: int) -> None:
    """Cut to the wanted counts; pairs stay whole, and come before questions without a twin."""
    twins = outcome.of("helpful")[:helpful]
    paired = {probe.group for probe in twins}
    direct = sorted(outcome.of("harmless"), key=lambda probe: probe.group not in paired)[:harmless]
    chosen = {probe.id for probe in (*direct, *twins)}
    outcome.drop([probe for probe in outcome.probes if probe.id not in chosen], "surplus")
    outcome.probes = [*direct, *twins]


def _rewrite(context: WritingContext, outcome: Outcome) -> None:
    """Add every direct question in every form of the configuration."""
    direct = outcome.of("harmless")
    for form in context.config.forms:
        stage = f"harmless, {form.replace('_', ' ')}"
        context.progress(stage, 0, len(direct))
        requests = [_form_request(context, form, probe) for probe in direct]
        rewritten = context.compose(context.config.writers.harmful, requests)
        sifted = context.sift(outcome, rewritten, rewritten=True)
        kept = _keep_refused(context, outcome, sifted)
        context.progress(stage, len(kept), len(direct))


def _form_request(context: WritingContext, form: Form, probe: Probe) -> QuestionRequest:
    taxonomy = context.config.taxonomy
    draft = Question("harmless", probe.category, terms=probe.terms, group=probe.group, form=form)
    fields = {"question": probe.prompt}
    if form == "translation":
        fields["language"] = context.pick(taxonomy.languages, "language", probe.prompt)
    return request(draft, taxonomy.templates.of(form), **fields)
