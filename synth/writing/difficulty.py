"""How hard domain questions are; easy and hard ones tell no two merges apart and are thinned.

Easy: every sample of the base is right. Hard: no sample of any model is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from synth.gates.pass_rate import Level, too_many
from synth.grading import grade_replies
from synth.writing.config import DomainConfig
from synth.writing.context import WritingContext
from synth.writing.outcome import Outcome
from synth.writing.questions import Question


def pass_rates(
    context: WritingContext,
    model: str,
    messages: Sequence[str],
    questions: Sequence[Question],
    *purpose: str | int,
) -> list[float]:
    """Share of a model's samples that are right, in [0, 1], for each answered question.

    `messages` are what it is told, one for each question; another `purpose` gives other samples.
    """
    count = context.config.samples
    replies = context.pool[model].chat(
        [message for message in messages for _ in range(count)],
        max_tokens=context.config.answer_tokens,
        temperature=context.config.sample_temperature,
        seed=context.seed_for(*purpose),
    )
    probes = [question.probe(question.answer, "", None) for question in questions]
    asked = [probe for probe in probes for _ in range(count)]
    grades = grade_replies(asked, replies, context.judge, context.grader)
    rights = [grade.right for grade in grades]
    return [sum(rights[start : start + count]) / count for start in range(0, len(rights), count)]


def levels_of(
    context: WritingContext, questions: Sequence[Question], turn: int, *, expert_knows: bool
) -> dict[str, Level]:
    """How hard each prompt is, with no passage shown, by samples of the models' answers."""
    settings = context.config.domain
    if not settings.asks_how_hard:
        return {}
    prompts = [question.prompt for question in questions]
    # The expert early: what one model answers no other is asked.
    others = () if expert_knows else (context.config.writers.domain, *context.pool)
    asked = list(dict.fromkeys((settings.base, *others)))
    levels: dict[str, Level] = {}
    left = list(zip(prompts, questions, strict=True))
    for place, name in enumerate(asked):
        context.progress("difficulty", place, len(asked))
        texts = [prompt for prompt, _ in left]
        rest = [question for _, question in left]
        rates = pass_rates(context, name, texts, rest, "difficulty", turn)
        easy = Level.EASY if name == settings.base else Level.FAIR
        levels |= {
            prompt: easy if rate == 1 else Level.FAIR
            for prompt, rate in zip(texts, rates, strict=True)
            if rate
        }
        left = [row for row, rate in zip(left, rates, strict=True) if not rate]
    context.progress("difficulty", len(asked), len(asked))
    return levels | {prompt: Level.FAIR if expert_knows else Level.HARD for prompt, _ in left}


def thin(outcome: Outcome, levels: Mapping[str, Level], settings: DomainConfig, *, of: int) -> None:
    """Drop what is too easy or too hard, by the levels of prompts, beyond its share of `of`."""
    if not settings.asks_how_hard:
        return
    held = [levels[probe.prompt] for probe in outcome.probes]
    beyond = too_many(held, easy=settings.easy, hard=settings.hard, of=of)
    rows = list(zip(outcome.probes, held, beyond, strict=True))
    for level in Level:
        outcome.drop([p for p, hard, more in rows if more and hard == level], f"too {level}")


def thin_to_the_end(
    outcome: Outcome, levels: Mapping[str, Level], settings: DomainConfig, *, wanted: int
) -> None:
    """Hold the shares of what there is, where it is less than what was wanted."""
    before = -1
    while before != len(outcome.probes):
        before = len(outcome.probes)
        thin(outcome, levels, settings, of=min(before, wanted))
