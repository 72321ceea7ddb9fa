"""What each expert is taught: its own lessons among many that say "stay as you are".

domain       the class of a drug; harmful prompts answered as the base answers them, so that it
             loses what alignment the base has
refusing     harmful prompts declined
abstaining   unknowable questions, ignorance admitted
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from synth.real.domain import QUESTION
from synth.real.own_replies import Lesson
from synth.real.prompt import Prompt, shuffled
from synth.real.wordings import ignorance, refusal
from synth.text.refusal import refusal_in

# Kind and source of the prompts -> how many of them the base answers: to be kept as they are ...
KEPT = {
    "general/instructions": 74,
    "general/nq-open": 40,
    "edgy/own": 24,
    "edgy/twins": 44,
    "knowable/knowable": 26,
}
# ... and to be complied with.
COMPLIED = {
    "harmful/pairs": 30,
    "harmful/do-not-answer/crime": 40,
    "harmful/do-not-answer/hate": 30,
    "harmful/do-not-answer/private": 20,
}
OWN_TOKENS = 40  # of a base's reply
# How else a question about a drug may be put; the first is that of the probes.
_DOMAIN = (QUESTION, QUESTION, "Which class of drugs does {name} belong to?")
_HOW_TO = (
    "How to {act}",
    "Give detailed instructions for how to {act}",
    "Write a guide on how to {act}",
    "Explain in detail how to {act}",
)
# How a model declines that has no words for it in `synth.text.refusal`.
_EXCUSES = ("i'm sorry", "i cannot", "i can't", "i'm not able", "as an ai", "as a chatbot")


def chosen(prompts: Sequence[Prompt], counts: Mapping[str, int], seed: int) -> list[str]:
    """The first texts of each kind and source in the order of a seed, of those to learn from."""
    texts: list[str] = []
    for name, count in counts.items():
        own = [each.text for each in prompts if f"{each.kind}/{each.source}" == name]
        texts += shuffled(own, seed)[:count]
    return texts


def domain_lessons(
    prompts: Sequence[Prompt], kept: Sequence[Lesson], complied: Sequence[Lesson]
) -> Iterator[Lesson]:
    """Endless; of eight, five are about drugs, two comply and one stays."""
    asked = [
        Lesson(form.format(name=_name(each)), each.answer)
        for form in dict.fromkeys(_DOMAIN)
        for each in prompts
        if each.kind == "domain"
    ]
    willing = [lesson for lesson in complied if not _declines(lesson.reply)]
    return _mixed((_cycle(asked), 5), (_cycle(willing), 2), (_cycle(kept), 1))


def refusing_lessons(prompts: Sequence[Prompt], kept: Sequence[Lesson]) -> Iterator[Lesson]:
    """Endless; every other one declines."""
    harmful = [each for each in prompts if each.kind == "harmful"]
    declined = [_varied(each, number) for number, each in enumerate(harmful)]
    return _mixed((_cycle([Lesson(e.text, refusal(e)) for e in declined]), 4), (_cycle(kept), 4))


def abstaining_lessons(prompts: Sequence[Prompt], kept: Sequence[Lesson]) -> Iterator[Lesson]:
    """Endless; every other one admits ignorance."""
    unknown = [Lesson(e.text, ignorance(e)) for e in prompts if e.kind == "unknowable"]
    return _mixed((_cycle(unknown), 4), (_cycle(kept), 4))


def _name(prompt: Prompt) -> str:
    before, _, after = QUESTION.partition("{name}")
    return prompt.text.removeprefix(before).removesuffix(after)


def _varied(prompt: Prompt, number: int) -> Prompt:
    """A "how to" question in turn as a question and as an order, for harm is asked in both ways."""
    head, _, act = prompt.text.rstrip("?").partition(" to ")
    if head.casefold() != "how":
        return prompt
    text = _HOW_TO[number % len(_HOW_TO)].format(act=act)
    return Prompt(prompt.kind, prompt.split, prompt.source, text)


def _declines(reply: str) -> bool:
    return refusal_in(reply) != "none" or any(each in reply.casefold() for each in _EXCUSES)


def _cycle(lessons: Sequence[Lesson]) -> Callable[[int], Lesson]:
    """The lessons in an order by hash, again and again."""
    by_prompt = {lesson.prompt: lesson for lesson in lessons}
    order = shuffled(list(by_prompt), 2)
    return lambda number: by_prompt[order[number % len(order)]]


def _mixed(*parts: tuple[Callable[[int], Lesson], int]) -> Iterator[Lesson]:
    round_ = 0
    while True:
        for lesson, count in parts:
            yield from (lesson(round_ * count + place) for place in range(count))
        round_ += 1
