"""The domain stage of probe writing, after Hammoud et al. 2024 (2406.14563), section 4.3.

As in the paper the expert writes questions about topics and answers them; or about passages, with
the passage before it; or the user brings both. Not in the paper: answers are verified, by samples
or by a grader, and questions that are always or never answered are down-sampled (`difficulty.py`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from synth.checkers.check import Check
from synth.gates.filtered import part
from synth.gates.leaks import LeakReference, drop_leaks
from synth.gates.pass_rate import Level
from synth.grading.grader import message
from synth.probes.verdict import Verdict
from synth.text.ignorance import admits_ignorance
from synth.text.reply import read_reply
from synth.writing.context import Reply, WritingContext
from synth.writing.difficulty import levels_of, pass_rates, thin, thin_to_the_end
from synth.writing.documents import Passage, read_passages
from synth.writing.outcome import Outcome
from synth.writing.questions import Question, QuestionRequest, request
from synth.writing.taxonomy import fill
from synth.writing.user_questions import read_user_questions

_SHOWN = 3  # examples in a request, as in the paper's appendix A.1


def domain(context: WritingContext) -> Outcome:
    """Questions of the deployment domain with verified answers."""
    path = context.config.domain.questions
    outcome = _write(context) if path is None else _take(context, path)
    outcome.cut("domain", context.config.counts.domain)
    return outcome


def _write(context: WritingContext) -> Outcome:
    """Questions that the expert writes and answers."""
    config, outcome = context.config, Outcome()
    settings, wanted, expert = config.domain, config.counts.domain, config.writers.domain
    passages = read_passages(settings.documents, most_chars=settings.passage_chars)
    examples = LeakReference(texts=settings.examples)
    sources = {passage.document for passage in passages} or set(config.taxonomy.topics)
    levels: dict[str, Level] = {}
    for turn, size in context.rounds(outcome, {"domain": wanted}, "domain"):
        requests = _requests(context, passages, size, outcome.written.get("domain", 0), turn)
        questions = context.write(outcome, expert, requests, turn, size)
        fresh = outcome.sifted(drop_leaks(questions, examples, kind="example"))
        verified = _verified(context, outcome, fresh, turn)
        levels |= levels_of(context, verified, turn, expert_knows=not passages)
        for question in verified:
            answer = Reply(expert, question.answer, Verdict.COMPLY)
            context.keep(outcome, question, answer, [answer])
        context.balance(outcome, "domain", len(sources))
        thin(outcome, levels, settings, of=wanted)
    thin_to_the_end(outcome, levels, settings, wanted=wanted)
    return outcome


def _take(context: WritingContext, path: str) -> Outcome:
    """Questions of the user's own, of which the first of repeats is kept."""
    settings, wanted = context.config.domain, context.config.counts.domain
    outcome = Outcome()
    context.progress("domain", 0, wanted)
    rows = [
        Question("domain", row.category, row.prompt, answer=row.wanted, check=row.checker)
        for row in read_user_questions(path)
    ]
    questions = context.sift(outcome, rows)
    levels = levels_of(context, questions, 0, expert_knows=False)
    outcome.probes += [question.probe(question.answer, "user", None) for question in questions]
    thin(outcome, levels, settings, of=wanted)
    thin_to_the_end(outcome, levels, settings, wanted=wanted)
    context.progress("domain", min(len(outcome.probes), wanted), wanted)
    return outcome


def _requests(
    context: WritingContext, passages: Sequence[Passage], size: int, start: int, turn: int
) -> list[QuestionRequest]:
    """Requests for questions; topics take turns, and passages go on where the last round ended."""
    settings, taxonomy = context.config.domain, context.config.taxonomy
    templates = taxonomy.templates
    requests = []
    for number in range(size):
        if passages:
            shown = passages[(start + number) % len(passages)]
            draft = Question("domain", shown.document, passage=shown.text)
            asked = request(draft, templates.write_passage, passage=shown.text)
        else:
            topic = taxonomy.topics[number % len(taxonomy.topics)]
            asked = request(Question("domain", topic), templates.write_domain, topic=topic)
        if settings.examples:
            rng = random.Random(context.seed_for("examples", turn, number))
            lines = "\n".join(f"- {text}" for text in rng.sample(settings.examples, _SHOWN))
            asked = asked.followed_by(templates.with_examples, examples=lines)
        requests.append(asked)
    return requests


def _messages(context: WritingContext, questions: Sequence[Question]) -> list[str]:
    """What the expert is told for an answer: the question, after its passage if it has one."""
    template = context.config.taxonomy.templates.answer_passage
    return [
        fill(template, passage=question.passage, question=question.prompt)
        if question.passage
        else question.prompt
        for question in questions
    ]


def _verified(
    context: WritingContext, outcome: Outcome, questions: Sequence[Question], turn: int
) -> list[Question]:
    """Let the expert answer, and keep what is an answer and is confirmed."""
    config = context.config
    settings, expert = config.domain, context.pool[config.writers.domain]
    replies = expert.chat(_messages(context, questions), max_tokens=config.answer_tokens)
    answers = [read_reply(reply).answer for reply in replies]
    verdicts = context.judge.judge([question.prompt for question in questions], answers)
    check = Check(kind=settings.check, tolerance=settings.tolerance)
    answered = []
    for question, answer, verdict in zip(questions, answers, verdicts, strict=True):
        if verdict != Verdict.COMPLY or admits_ignorance(answer):
            outcome.reject(question, "no answer")
        elif check.problem(answer):
            outcome.reject(question, f"no {settings.check} answer")
        else:
            answered.append(replace(question, answer=answer, check=check))
    reasons = _bad_grades(context, answered)
    if reasons is None:
        reasons = _disagreement(context, answered, turn)
    return outcome.sifted(part(answered, reasons))


def _disagreement(
    context: WritingContext, answered: Sequence[Question], turn: int
) -> list[str | None]:
    """Why answers are dropped with which too few samples of the expert agree."""
    config = context.config
    messages = _messages(context, answered)
    rates = pass_rates(context, config.writers.domain, messages, answered, "samples", turn)
    return ["samples disagree" if rate < config.agreement else None for rate in rates]


def _bad_grades(context: WritingContext, answered: Sequence[Question]) -> list[str | None] | None:
    """Why answers are dropped that the grader does not call right; None where there is none."""
    if context.grader is None:
        return None
    messages = [message(row.prompt, row.answer, passage=row.passage) for row in answered]
    grades = context.grader.grade(messages)
    reasons = {True: None, False: "graded wrong", None: "grade unreadable"}
    return [reasons[right] for right in grades]
