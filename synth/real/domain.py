"""The domain: what class a drug is of, asked of names that carry a stem."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from synth.real.packages import BRANDS
from synth.real.prompt import Prompt, Split, shuffled
from synth.real.stems import drug_class

QUESTION = "What class of drug is {name}?"
# In turn through the names of a class, so that each split knows nearly every class. Small classes
# do not reach the last turn, so it goes to either split in every other class.
_TURNS: tuple[tuple[Split, ...], ...] = (
    ("train", "heldout", "train", "search"),
    ("train", "search", "train", "heldout"),
)


def domain_prompts(files: Mapping[str, Path], seed: int) -> list[Prompt]:
    """One question for each name; half of the names are to learn from.

    A class of one name alone is left out: nothing could be learned about it.
    """
    mappings = json.loads(files[BRANDS].read_text(encoding="utf-8"))["mappings"]
    names = {
        generic.lower()
        for mapping in mappings
        for relation in mapping["relations"]
        if relation["key"] == "generic"
        for generic in relation["values"]
    }
    classes: dict[str, list[str]] = defaultdict(list)
    for name in shuffled(sorted(names), seed):
        if (kind := drug_class(name)) is not None:
            classes[kind].append(name)
    return [
        Prompt("domain", _TURNS[number % 2][turn % 4], kind, QUESTION.format(name=name), kind)
        for number, (kind, names) in enumerate(sorted(classes.items()))
        if len(names) > 1
        for turn, name in enumerate(names)
    ]
