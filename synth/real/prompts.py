"""All prompts of the real ground, each in one split only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from synth.real.domain import domain_prompts
from synth.real.edgy import edgy_prompts
from synth.real.general import general_prompts
from synth.real.harmful import harmful_prompts
from synth.real.prompt import Prompt
from synth.real.unknowable import unknowable_prompts

_ORDER = ("heldout", "search", "train")


def all_prompts(files: Mapping[str, Path], seed: int = 0) -> list[Prompt]:
    """Read, made and dealt by seed.

    A text that several sets hold stays in one split alone, held out before search before train.

    Args:
        files: path inside a wheel -> file, of every package in `PROMPT_PACKAGES`.
        seed: of every order and split.
    """
    found = [
        *harmful_prompts(files, seed),
        *edgy_prompts(files, seed),
        *domain_prompts(files, seed),
        *unknowable_prompts(seed),
        *general_prompts(files, seed),
    ]
    first: dict[str, Prompt] = {}
    for prompt in sorted(found, key=lambda each: _ORDER.index(each.split)):
        first.setdefault(prompt.text.casefold(), prompt)
    kept = {id(prompt) for prompt in first.values()}
    return [prompt for prompt in found if id(prompt) in kept]
