"""A guard that says what a test tells it to."""

from __future__ import annotations

from collections.abc import Sequence


class Scripted:
    """A guard that always says the same, and keeps what it was told."""

    def __init__(self, reply: str) -> None:
        self.reply, self.asked = reply, []

    asked: list[str]

    def chat(self, prompts: Sequence[str], *, max_tokens: int) -> list[str]:
        self.asked += prompts
        return [self.reply for _ in prompts]

    def fingerprint(self) -> str:
        return "scripted"
