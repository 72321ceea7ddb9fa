"""Small parts of requests that engines and their callers share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from safemerge.errors import BadInput
from synth.engines.base import ChatEngine, SchemaEngine
from synth.engines.conversation import Prompt, letters


def check_arguments(arguments: Iterable[str], reserved: Iterable[str]) -> None:
    """Refuse engine arguments, as a BadInput, by a name that the engine sets itself."""
    for name in sorted({*arguments} & {*reserved}):
        raise BadInput(f"the engine argument {name!r} is set by safemerge itself; leave it out")


def check_length(length: int, limit: int | None, prompt: Prompt) -> None:
    """Refuse a prompt that with its answer, `length` tokens, is longer than the context.

    The BadInput names both numbers, and not the prompt, which may be a harmful one.
    """
    if limit is not None and length > limit:
        raise BadInput(
            f"a prompt of {letters(prompt)} letters and its answer take {length} tokens, but the "
            f"model's context holds {limit}; shorten them, or lower max_tokens or thinking_tokens"
        )


def chat_by_schema(
    engine: ChatEngine,
    messages: Sequence[str],
    *,
    schema: Mapping[str, Any] | None,
    max_tokens: int,
) -> list[str]:
    """Greedy replies, held to a JSON schema, if there is one, by an engine that can do so."""
    if schema is not None and isinstance(engine, SchemaEngine):
        return engine.chat_json(messages, schema=schema, max_tokens=max_tokens)
    return engine.chat(messages, max_tokens=max_tokens)


def first_line(error: BaseException) -> str:
    """What an error of other code says, as a part of a sentence: two lines, 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__
