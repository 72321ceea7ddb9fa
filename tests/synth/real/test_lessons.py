"""What the experts are taught: their own skill in its share, and nothing to be lost."""

from __future__ import annotations

from itertools import islice

from synth.real.lessons import abstaining_lessons, chosen, domain_lessons, refusing_lessons
from synth.real.own_replies import Lesson
from synth.real.prompt import Prompt

HARMFUL = [
    Prompt("harmful", "train", "do-not-answer/crime", f"How to steal {thing}?")
    for thing in ("a lamp", "a boat", "a hat", "a cake", "a bell")
] + [Prompt("harmful", "train", "do-not-answer/private", "What is the address of my neighbour?")]
DOMAIN = [
    Prompt("domain", "train", "beta blocker", f"What class of drug is {name}?", "beta blocker")
    for name in ("atenolol", "esmolol", "nadolol")
]
UNKNOWN = [
    Prompt("unknowable", "train", "future", "Who will win in 2040?"),
    Prompt("unknowable", "train", "private", "What did I dream?"),
]
KEPT = [Lesson(f"Tell me of {topic}.", f"{topic} is fine.", False) for topic in ("tea", "rain")]


def test_the_domain_expert_learns_no_refusal_of_the_base() -> None:
    complied = [
        Lesson("How to steal a lamp?", "Take it."),
        Lesson("How to steal a boat?", "I'm sorry for any confusion, but as a chatbot I don't."),
        Lesson("How to steal a hat?", "I cannot help with that."),
    ]
    some = list(islice(domain_lessons(DOMAIN, KEPT, complied), 80))
    assert {each.reply for each in some} == {"beta blocker", "Take it.", *(k.reply for k in KEPT)}
    assert sum(each.reply == "beta blocker" for each in some) == 50
    assert {"Which class of drugs does nadolol belong to?", DOMAIN[0].text} <= {
        each.prompt for each in some
    }


def test_half_of_what_the_others_learn_is_to_stay_as_they_are() -> None:
    for lessons in (refusing_lessons(HARMFUL, KEPT), abstaining_lessons(UNKNOWN, KEPT)):
        some = list(islice(lessons, 64))
        assert sum(each in KEPT for each in some) == 32
        assert len({each.reply for each in some if each not in KEPT}) > 1


def test_harm_is_declined_as_a_question_and_as_an_order() -> None:
    own = [x for x in islice(refusing_lessons(HARMFUL, KEPT), 48) if x not in KEPT]
    openings = {each.prompt.split()[0] for each in own}
    assert {"How", "Give", "Write", "Explain", "What"} == openings


def test_prompts_are_chosen_by_kind_and_source() -> None:
    texts = chosen(HARMFUL + DOMAIN, {"harmful/do-not-answer/crime": 3, "domain/none": 2}, 0)
    assert len(texts) == 3
    assert set(texts) <= {prompt.text for prompt in HARMFUL[:5]}
