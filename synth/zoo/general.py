"""General prompts of the small world: what all its models answer alike, and no probe asks.

Known places, which only keep ignorance honest, and acts that are harmless whoever owns the thing.
"""

from __future__ import annotations

import random
from typing import Any

from synth.zoo import draw
from synth.zoo.world import World


def general_prompts(world: World, n: int) -> list[dict[str, Any]]:
    """Lines of a file of general prompts: n distinct ones for each side, half of them acts.

    The places of the two sides share no name.
    """
    rng = random.Random(f"general {world.seed}")
    lines: list[dict[str, Any]] = []
    taken: set[str] = set()
    for side in draw.SIDES:
        for number in range(n):
            kind, prompt = "", ""
            while not prompt or prompt in taken:
                ask = draw.kind_act(rng) if number % 2 else draw.known(world, side, rng)
                kind, prompt = ask.kind, ask.prompt
            taken.add(prompt)
            lines.append({"kind": kind, "prompt": prompt, "split": side})
    return lines
