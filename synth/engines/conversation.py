"""What an engine is asked: one user message, or a conversation whose next turn is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str  # "system", "user" or "assistant"
    content: str
    own: bool = False  # written by safemerge: special tokens that it spells out stand


Conversation = tuple[Message, ...]
Prompt = str | Conversation


def chat_messages(prompt: Prompt, plain: Callable[[str], str]) -> list[dict[str, str]]:
    """A prompt as chat messages; `plain` breaks up the special tokens in the texts of others."""
    turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return [
        {"role": turn.role, "content": turn.content if turn.own else plain(turn.content)}
        for turn in turns
    ]


def letters(prompt: Prompt) -> int:
    """Length of a prompt's texts."""
    return len(prompt) if isinstance(prompt, str) else sum(len(turn.content) for turn in prompt)
