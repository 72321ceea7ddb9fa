"""The domain stage of probe making: paper B's self-questioning (2406.14563, section 4.3), and more.

    topics      the expert writes questions about a topic and answers them, as in the paper
    documents   it writes questions about a passage, and answers them with the passage before it
    questions   the user brings questions with answers, and nothing is written

What the expert answers is verified: by samples of its own answer, or by a grader. Questions that
the base always answers, or nobody ever, are thinned. The paper has neither; both are ours. A
function of the workshop alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from synth.checkers.check import Check
from synth.checkers.grader import Graded, grade
from synth.gates.filtered import Text
from synth.gates.leaks import Reference, drop_leaks
from synth.gates.pass_rate import Level
from synth.judges.verdict import Verdict
from synth.probes.probe import Probe
from synth.text.ignorance import admits_ignorance
from synth.writing.answered import Answered, shares_right
from synth.writing.context import Outcome, Workshop
from synth.writing.difficulty import levels_of, thin, thin_to_the_end
from synth.writing.documents import Passage, read_passages
from synth.writing.questions import Ask, Question, Written, ask
from synth.writing.taxonomy import fill
from synth.writing.user_questions import read_given

_SHOWN = 3  # examples in a request, as in the paper


def domain(shop: Workshop) -> Outcome:
    """Questions of the deployment domain with verified answers."""
    out = _given(shop) if shop.config.domain.questions else _written(shop)
    out.cut("domain", shop.config.counts.domain)
    return out


def _written(shop: Workshop) -> Outcome:
    config, out = shop.config, Outcome()
    settings, wanted = config.domain, config.counts.domain
    passages = read_passages(settings.documents, most_chars=settings.passage_chars)
    examples = Reference([Text(example) for example in settings.examples])
    sources = {passage.document for passage in passages} or set(config.taxonomy.topics)
    levels: dict[str, Level] = {}
    for turn, size in shop.rounds(out, {"domain": wanted}, "domain"):
        asks = _asks(shop, passages, size, out.written.get("domain", 0), turn)
        written = shop.write(out, "domain", config.writers.domain, asks, turn)
        fresh = drop_leaks(written, examples, kind="example")
        for dropped in fresh.dropped:
            out.reject(dropped.item, dropped.reason)
        verified = _verified(shop, out, fresh.kept, turn)
        found = levels_of(shop, verified, turn, expert_knows=not passages)
        for one, level in zip(verified, found, strict=True):
            name = config.writers.domain
            shop.keep(out, one.question, one.answer, name, {name: Verdict.COMPLY})
            levels[one.question.prompt] = level
        shop.balance(out, "domain", len(sources))
        thin(shop, out, levels, wanted)
    thin_to_the_end(shop, out, levels)
    return out


def _asks(
    shop: Workshop, passages: Sequence[Passage], size: int, start: int, turn: int
) -> list[Ask]:
    """Requests for questions; topics take turns, and passages go on where the last round ended."""
    settings, topics = shop.config.domain, shop.config.taxonomy.topics
    templates = shop.config.taxonomy.templates
    asks = []
    for number in range(size):
        if passages:
            shown = passages[(start + number) % len(passages)]
            made = ask(templates.write_passage, shown.document, passage=shown.text)
            made = replace(made, passage=shown.text)
        else:
            topic = topics[number % len(topics)]
            made = ask(templates.write_domain, topic, topic=topic)
        if settings.examples:
            rng = random.Random(shop.number("examples", turn, number))
            lines = "\n".join(f"- {one}" for one in rng.sample(settings.examples, _SHOWN))
            with_them = fill(templates.with_examples, examples=lines)
            made = replace(
                made,
                template=f"{made.template}\n\n{templates.with_examples}",
                message=f"{made.message}\n\n{with_them}",
            )
        asks.append(made)
    return asks


def _messages(shop: Workshop, questions: Sequence[Question]) -> list[str]:
    """What the expert is told for an answer: the question, after its passage if it has one."""
    template = shop.config.taxonomy.templates.answer_passage
    return [
        fill(template, passage=question.passage, question=question.prompt)
        if question.passage
        else question.prompt
        for question in questions
    ]


def _verified(
    shop: Workshop, out: Outcome, questions: Sequence[Question], turn: int
) -> list[Answered]:
    """Let the expert answer, and keep what is an answer and is confirmed."""
    config = shop.config
    settings, expert = config.domain, shop.pool[config.writers.domain]
    answers = expert.chat(_messages(shop, questions), max_tokens=config.answer_tokens)
    verdicts = shop.judge.judge([question.prompt for question in questions], answers)
    check = Check(kind=settings.check, tolerance=settings.tolerance)
    answered = []
    for question, answer, verdict in zip(questions, answers, verdicts, strict=True):
        if verdict != Verdict.COMPLY or admits_ignorance(answer):
            out.reject(question, "no answer")
        elif not check.usable(answer):
            out.reject(question, f"no {settings.check} answer")
        else:
            answered.append(Answered(question, answer, check))
    if settings.grader is not None:
        return _graded(shop, out, answered, settings.grader)
    return _agreed(shop, out, answered, turn)


def _agreed(
    shop: Workshop, out: Outcome, answered: Sequence[Answered], turn: int
) -> list[Answered]:
    """Keep answers with which enough samples of the expert agree."""
    config = shop.config
    asked = _messages(shop, [one.question for one in answered])
    shares = shares_right(shop, config.writers.domain, asked, answered, "samples", turn)
    kept = []
    for one, share in zip(answered, shares, strict=True):
        if share < config.agreement:
            out.reject(one.question, "samples disagree")
        else:
            kept.append(one)
    return kept


def _graded(
    shop: Workshop, out: Outcome, answered: Sequence[Answered], name: str
) -> list[Answered]:
    """Keep answers that the grader calls right."""
    rows = [Graded(one.question.prompt, one.answer, one.question.passage) for one in answered]
    limit = shop.config.domain.unreadable_frac
    kept = []
    for one, right in zip(
        answered, grade(shop.pool[name], rows, name=name, unreadable=limit), strict=True
    ):
        if right:
            kept.append(one)
        else:
            out.reject(one.question, "grade unreadable" if right is None else "graded wrong")
    return kept


def _given(shop: Workshop) -> Outcome:
    config, out = shop.config, Outcome()
    rows = read_given(str(config.domain.questions))
    brought = [
        Question("domain", row.category, "user", Written(row.prompt, "", 0.0, 0)) for row in rows
    ]
    known = {row.prompt: row for row in reversed(rows)}  # of repeats, the first is kept
    answered = [
        Answered(question, known[question.prompt].wanted, known[question.prompt].checker)
        for question in shop.sift(out, "domain", brought)
    ]
    levels: dict[str, Level] = {}
    found = levels_of(shop, answered, 0, expert_knows=False)
    for one, level in zip(answered, found, strict=True):
        question = one.question
        out.probes.append(
            Probe(
                axis="domain",
                category=question.category,
                prompt=question.prompt,
                answer=one.answer,
                terms=question.terms,
            )
        )
        levels[question.prompt] = level
    thin(shop, out, levels, config.counts.domain)
    thin_to_the_end(shop, out, levels)
    shop.progress("domain", min(len(out.probes), config.counts.domain), config.counts.domain)
    return out
