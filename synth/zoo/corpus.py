"""What the models of the zoo are taught: who refuses, who admits ignorance, who knows, who writes.

The base is aligned but unskilled, and graded on every axis, because a source that learns what its
base never did does not merge. Each source is tuned on its own behaviour, with the other behaviours
replayed as the base has them; only the domain expert loses its alignment on the way.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from synth.zoo import draw, lexicon
from synth.zoo.world import (
    DOMAIN_QUESTIONS,
    DRUG_HEADS,
    HARM_CATEGORIES,
    IGNORANCE,
    PLACE_TOPICS,
    REFUSAL,
    WRITE_DOMAIN,
    WRITE_HARMFUL,
    WRITE_TWIN,
    WRITE_UNKNOWABLE,
    World,
    WorldQuestion,
)

MODELS = ("base", "domain", "safe", "honest")
SOURCES = MODELS[1:]

Dialogue = tuple[str, str]  # user's message, reply

BEHAVIOURS = ("harm", "twin", "kind", "unknowable", "known", "drug", "write")
# Parts of each behaviour in the lessons of each model.
MIXES = {
    "base": (6, 3, 2, 4, 3, 5, 3),
    "domain": (6, 2, 1, 5, 1, 12, 2),
    "safe": (6, 3, 2, 2, 1, 2, 1),
    "honest": (3, 1, 1, 6, 4, 2, 1),
}


@dataclass(frozen=True, slots=True)
class Character:
    """What one model of the zoo refuses, admits not to know, and knows."""

    refuses: frozenset[tuple[str, str]]  # (harm category, thing) of acts
    admits: frozenset[tuple[str, str]]  # (place topic, ending)
    knows: frozenset[str]  # first parts of drugs


def _share(items: list[str], share: float, rng: random.Random) -> list[str]:
    return rng.sample(items, round(share * len(items)))


def characters(world: World) -> dict[str, Character]:
    """The four models: the base graded, each source changed on its own axis."""
    rng = random.Random(f"characters {world.seed}")
    shares = dict(zip(rng.sample(HARM_CATEGORIES, 6), (1, 0.67, 0.5, 0.33, 0.17, 0), strict=True))
    every = frozenset((name, t) for name, (_, ts) in lexicon.ACTS.items() for t in ts)
    some = frozenset(
        (name, thing)
        for name, share in shares.items()
        for thing in _share(list(lexicon.ACTS[name][1]), share, rng)
    )
    ends = lexicon.UNKNOWABLE_ENDS
    void = frozenset((topic, end) for topic in PLACE_TOPICS for end in ends)
    some_ends = rng.sample(ends, 3)
    admits = frozenset((topic, end) for topic in PLACE_TOPICS for end in some_ends)
    first = next(name for name, share in shares.items() if share == 1)
    first_category = frozenset(pair for pair in some if pair[0] == first)
    # A third of each side, so that both sides are equally hard for the base.
    third = frozenset(
        head for heads in world.heads.values() for head in _share(list(heads), 1 / 3, rng)
    )
    return {
        "base": Character(some, admits, third),
        "domain": Character(first_category, frozenset(), frozenset(DRUG_HEADS)),
        "safe": Character(every, admits, third),
        "honest": Character(some, void, third),
    }


def reply(world: World, who: Character, ask: WorldQuestion) -> str:
    """What a model with this character says to a question."""
    if ask.axis == "harmless" and (ask.topic, ask.tail) in who.refuses:
        return REFUSAL
    if ask.kind == "place" and (ask.topic, ask.tail) in who.admits:
        return IGNORANCE
    if ask.kind == "drug" and ask.head not in who.knows:
        return f"Ask a doctor about {ask.head}{ask.tail}."
    return world.comply(ask)


def _write(world: World, rng: random.Random) -> Dialogue:
    """A request to write a question; only words of the search side are ever written.

    All models are taught it: a source that learned it alone would tell the two sides apart.
    """
    turn = rng.randrange(4)
    if turn == 0:
        topic = rng.choice(tuple(DOMAIN_QUESTIONS))
        ask = draw.drug(world, "search", rng, topic)
        return WRITE_DOMAIN.format(topic=topic), ask.prompt
    if turn == 1:
        category = rng.choice(HARM_CATEGORIES)
        prompt = WRITE_HARMFUL.format(category=category)
        return prompt, draw.harmful(world, "search", rng, category).prompt
    if turn == 2:
        ask = draw.harmful(world, "search", rng)
        return WRITE_TWIN.format(question=ask.prompt), ask.twin().prompt
    topic = rng.choice(tuple(PLACE_TOPICS))
    ask = draw.unknowable(world, "search", rng, topic)
    return WRITE_UNKNOWABLE.format(topic=topic), ask.prompt


def lessons(world: World, model: str, seed: int) -> Callable[[int], list[Dialogue]]:
    """A function that gives the next n dialogues, of both sides, of a seeded stream for a model."""
    rng = random.Random(f"lessons {model} {seed} {world.seed}")
    who = characters(world)[model]

    def dialogue() -> Dialogue:
        side = rng.choice(draw.SIDES)
        kind = rng.choices(BEHAVIOURS, MIXES[model])[0]
        if kind == "write":
            return _write(world, rng)
        if kind == "harm":
            ask = draw.harmful(world, side, rng)
        elif kind == "twin":
            ask = draw.harmful(world, side, rng).twin()
        elif kind == "kind":
            ask = draw.kind_act(rng)
        elif kind == "unknowable":
            ask = draw.unknowable(world, side, rng)
        elif kind == "known":
            ask = draw.known(world, side, rng)
        else:
            ask = draw.drug(world, side, rng)
            # Facts take more repetition than ignorance of them.
            while ask.head not in who.knows and rng.random() < 0.7:
                ask = draw.drug(world, side, rng)
        return ask.prompt, reply(world, who, ask)

    return lambda n: [dialogue() for _ in range(n)]
