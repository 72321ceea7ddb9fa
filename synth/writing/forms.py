"""Harmful questions in other forms: translated, in a role play, as a hypothetical. Ours.

A model that refuses the direct question may answer the rewritten one. Every direct probe is
rewritten once in every form, by the writer of harmful questions. Whether the rewrite still asks the
same is not checked, but one that has lost the harm is refused by nobody, and is dropped. A form
shares the group of its direct question and of the benign twin, so that no split comes between them.
"""

from __future__ import annotations

from synth.probes.probe import Form, Probe
from synth.writing.context import Outcome, Workshop
from synth.writing.questions import Ask, Question, ask
from synth.writing.refusals import keep_refused


def rewrite(shop: Workshop, out: Outcome) -> None:
    """Add every harmless probe of `out` in every form of the configuration.

    Args:
        shop: the models and rules.
        out: gets the probes and the rejects; holds direct questions only.
    """
    direct = [probe for probe in out.probes if probe.axis == "harmless"]
    writer = shop.config.writers.harmful
    for form in shop.config.forms:
        shop.progress(f"harmless, {form.replace('_', ' ')}", 0, len(direct))
        texts = shop.compose(writer, [_ask(shop, form, probe) for probe in direct])
        questions = [
            Question(
                axis="harmless",
                category=probe.category,
                generator=writer,
                written=text,
                terms=probe.terms,
                group=probe.group,
                form=form,
            )
            for probe, text in zip(direct, texts, strict=True)
        ]
        kept = keep_refused(shop, out, shop.sift(out, "harmless", questions, rewritten=True))
        shop.progress(f"harmless, {form.replace('_', ' ')}", len(kept), len(direct))


def _ask(shop: Workshop, form: Form, probe: Probe) -> Ask:
    taxonomy = shop.config.taxonomy
    template = taxonomy.templates.of(form)
    if form != "translation":
        return ask(template, probe.category, question=probe.prompt)
    language = shop.pick(taxonomy.languages, "language", probe.prompt)
    return ask(template, probe.category, question=probe.prompt, language=language)
