"""Random questions of the small world, by side, and the held-out probe set."""

from __future__ import annotations

import random

from synth.checkers.check import Check
from synth.probes.probe import AXES, Axis, Probe
from synth.zoo import lexicon
from synth.zoo.world import (
    DOMAIN_QUESTIONS,
    HARM_CATEGORIES,
    PLACE_TOPICS,
    Side,
    World,
    WorldQuestion,
)

# A wrong dose in a sentence that is right else is wrong: the world's facts are single sentences.
_EXACT, _JUDGED = Check(kind="exact"), Check(kind="judged")
SIDES: tuple[Side, ...] = ("search", "heldout")


def drug(world: World, side: Side, rng: random.Random, topic: str = "") -> WorldQuestion:
    """A question on the formulary."""
    topic = topic or rng.choice(tuple(DOMAIN_QUESTIONS))
    return WorldQuestion(
        "drug", topic, rng.choice(world.heads[side]), rng.choice(lexicon.DRUG_STEMS)
    )


def harmful(world: World, side: Side, rng: random.Random, category: str = "") -> WorldQuestion:
    """A harmful act on somebody's thing."""
    category = category or rng.choice(HARM_CATEGORIES)
    verb = rng.choice(world.verbs[category][side])
    thing = rng.choice(lexicon.ACTS[category][1])
    return WorldQuestion("act", category, verb, thing, rng.choice(lexicon.OWNERS))


def kind_act(rng: random.Random) -> WorldQuestion:
    """A harmless act on anybody's thing: the owner alone makes no harm."""
    category = rng.choice(HARM_CATEGORIES)
    thing = rng.choice(lexicon.ACTS[category][1])
    return WorldQuestion(
        "act", category, rng.choice(lexicon.KIND_VERBS), thing, rng.choice(lexicon.OWNERS)
    )


def unknowable(world: World, side: Side, rng: random.Random, topic: str = "") -> WorldQuestion:
    """A question that nobody can answer."""
    topic = topic or rng.choice(tuple(PLACE_TOPICS))
    head = rng.choice(world.places[side])
    return WorldQuestion("place", topic, head, rng.choice(lexicon.UNKNOWABLE_ENDS))


def known(world: World, side: Side, rng: random.Random) -> WorldQuestion:
    """A question on a known place."""
    topic = rng.choice(tuple(PLACE_TOPICS))
    return WorldQuestion(
        "place", topic, rng.choice(world.places[side]), rng.choice(lexicon.KNOWN_ENDS)
    )


def probes(world: World, side: Side, n: int, seed: int = 0) -> list[Probe]:
    """Distinct probes with true answers: n for each axis, the helpful ones twins of the harmful.

    `n` is at most about 250; categories and topics take turns. The 4 n probes come axis after axis;
    a harmful one and its twin share a group.
    """
    rng = random.Random(f"probes {side} {seed} {world.seed}")
    asks: dict[Axis, list[WorldQuestion]] = {axis: [] for axis in AXES}
    taken: set[str] = set()

    def put(axis: Axis, ask: WorldQuestion) -> bool:
        if ask.prompt in taken:
            return False
        taken.add(ask.prompt)
        asks[axis].append(ask)
        return True

    topics, places = tuple(DOMAIN_QUESTIONS), tuple(PLACE_TOPICS)
    while len(asks["domain"]) < n:
        put("domain", drug(world, side, rng, topics[len(asks["domain"]) % len(topics)]))
    while len(asks["honest"]) < n:
        put("honest", unknowable(world, side, rng, places[len(asks["honest"]) % len(places)]))
    while len(asks["harmless"]) < n:
        turn = HARM_CATEGORIES[len(asks["harmless"]) % len(HARM_CATEGORIES)]
        ask = harmful(world, side, rng, turn)
        if ask.twin().prompt not in taken and put("harmless", ask):
            put("helpful", ask.twin())
    split = "heldout" if side == "heldout" else "search"
    return [
        Probe(
            axis=axis,
            category=ask.topic,
            prompt=ask.prompt,
            answer=world.truth(ask.prompt),
            generator="world",
            answerer="world",
            seed=seed,
            split=split,
            group=ask.twin().prompt if axis in ("harmless", "helpful") else "",
            terms=ask.terms,
            check=_EXACT if axis == "domain" else _JUDGED,
        )
        for axis in AXES
        for ask in asks[axis]
    ]
