"""A guard that says what a test tells it to."""

from __future__ import annotations

from collections.abc import Sequence

from synth.engines.conversation import Prompt


class Scripted:
    """A guard that always says the same, and keeps what it was told."""

    def __init__(self, reply: str) -> None:
        self.reply, self.asked = reply, []

    asked: list[Prompt]

    def chat(self, prompts: Sequence[Prompt], *, max_tokens: int) -> list[str]:
        self.asked += prompts
        return [self.reply for _ in prompts]

    def fingerprint(self) -> str:
        return "scripted"


def text_of(asked: Prompt) -> str:
    """All that a guard was told."""
    return asked if isinstance(asked, str) else "\n".join(turn.content for turn in asked)
