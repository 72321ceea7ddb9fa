"""What the base itself replies: what an expert is to leave as it is.

A reply that is cut is kept as cut, so that nobody learns to stop there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synth.engines.transformers import TransformersEngine


@dataclass(frozen=True, slots=True)
class Lesson:
    """One message and the reply to learn."""

    prompt: str
    reply: str
    ended: bool = True  # False: the reply goes on, and its end is not learned


def own_replies(
    engine: TransformersEngine, prompts: Sequence[str], max_tokens: int
) -> list[Lesson]:
    """Greedy replies of at most `max_tokens` tokens to each prompt; empty ones are left out."""
    replies = engine.chat(prompts, max_tokens=max_tokens)
    counts = [len(ids) for ids in engine.tokenizer(replies, add_special_tokens=False)["input_ids"]]
    # Spaces at the ends are stripped from a reply, so a full one may count a token or two less.
    return [
        Lesson(prompt, reply, ended=count < max_tokens - 2)
        for prompt, reply, count in zip(prompts, replies, counts, strict=True)
        if reply
    ]
