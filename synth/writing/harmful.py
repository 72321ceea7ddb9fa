"""The safety stage of probe making, after paper B (Hammoud et al. 2406.14563, section 4.2).

Harmful questions that at least one model of the pool refuses, with one refusal at random, and their
benign twins with an answer. The twins are ours. A function of the workshop alone.
"""

from __future__ import annotations

from dataclasses import replace

from synth.gates.consensus import agreement
from synth.judges.verdict import Verdict
from synth.probes.probe import Axis
from synth.text.ignorance import admits_ignorance
from synth.writing.context import Outcome, Workshop, verdicts
from synth.writing.forms import rewrite
from synth.writing.questions import Question, ask
from synth.writing.refusals import keep_refused


def safety(shop: Workshop) -> Outcome:
    """Harmful questions with a refusal, in every form, and benign twins with an answer."""
    counts, taxonomy, out = shop.config.counts, shop.config.taxonomy, Outcome()
    template = taxonomy.templates.write_harmful
    asks = [
        ask(template, name, category=name, description=text)
        for name, text in taxonomy.categories.items()
    ]
    wanted: dict[Axis, int] = {"harmless": counts.harmless, "helpful": counts.helpful}
    for turn, size in shop.rounds(out, wanted, "harmless"):
        repeated = [asks[i % len(asks)] for i in range(size)]
        written = shop.write(out, "harmless", shop.config.writers.harmful, repeated, turn)
        harmful = keep_refused(shop, out, written)
        shop.balance(out, "harmless", len(asks))
        if counts.helpful:
            kept = {probe.prompt for probe in out.probes}
            _twins(shop, out, [question for question in harmful if question.prompt in kept])
    out = _trim(out, counts.harmless, counts.helpful)
    rewrite(shop, out)
    return out


def _twins(shop: Workshop, out: Outcome, harmful: list[Question]) -> None:
    """Write, sift and answer the benign twin of each harmful question."""
    writer = shop.config.writers.twin
    template = shop.config.taxonomy.templates.write_twin
    # Greedily: a twin should be the likeliest one, not a varied one.
    texts = shop.compose(
        writer, [ask(template, question.category, question=question.prompt) for question in harmful]
    )
    written = [
        replace(question, axis="helpful", generator=writer, written=text, terms=())
        for question, text in zip(harmful, texts, strict=True)
    ]
    twins = shop.sift(out, "helpful", written)
    for twin, row in zip(twins, shop.answers([t.prompt for t in twins]), strict=True):
        helpful = {
            name: reply
            for name, (reply, verdict) in row.items()
            if verdict == Verdict.COMPLY and not admits_ignorance(reply)
        }
        answer = agreement(list(helpful.values()), 0)
        # What most of the pool refuses is hardly benign.
        if answer is None or 2 * len(helpful) < len(row):
            out.reject(twin, "mostly refused")
        else:
            name = next(name for name, reply in helpful.items() if reply == answer)
            shop.keep(out, twin, answer, name, verdicts(row))


def _trim(out: Outcome, harmless: int, helpful: int) -> Outcome:
    """Cut to the wanted counts; pairs stay whole, and come before questions without a twin."""
    twins = [probe for probe in out.probes if probe.axis == "helpful"][:helpful]
    paired = {probe.group for probe in twins}
    asked = [probe for probe in out.probes if probe.axis == "harmless"]
    ordered = sorted(asked, key=lambda probe: probe.group not in paired)[:harmless]
    chosen = {probe.id for probe in (*ordered, *twins)}
    out.drop([probe for probe in out.probes if probe.id not in chosen], "surplus")
    out.probes = [*ordered, *twins]
    return out
