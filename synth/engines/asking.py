"""What every engine does with a request before its model sees it: checks, repeats, choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from safemerge.errors import BadInput
from synth.engines.base import ChatEngine, Likelihood, SchemaEngine

Pairs = Sequence[tuple[str, str]]


def check_sampling(max_tokens: int, temperature: float) -> None:
    """Refuse a length below 1 and a temperature below 0.

    Raises:
        BadInput: naming both.
    """
    if max_tokens < 1 or not temperature >= 0:
        raise BadInput(
            f"max_tokens is {max_tokens} and temperature {temperature}; "
            "they must be at least 1 and at least 0"
        )


def check_arguments(arguments: Iterable[str], reserved: Iterable[str]) -> None:
    """Refuse engine arguments by a name that the engine sets itself.

    Raises:
        BadInput: naming the first.
    """
    for name in sorted({*arguments} & {*reserved}):
        raise BadInput(f"the engine argument {name!r} is set by safemerge itself; leave it out")


def check_length(length: int, limit: int | None, prompt: str) -> None:
    """Refuse a prompt that with its answer, `length` tokens, is longer than the context.

    Raises:
        BadInput: naming both numbers, and not the prompt, which may be a harmful one.
    """
    if limit is not None and length > limit:
        raise BadInput(
            f"a prompt of {len(prompt)} letters and its answer take {length} tokens, but the "
            f"model's context holds {limit}; shorten them or lower max_tokens"
        )


def once_each(prompts: Sequence[str], reply: Callable[[list[str]], list[str]]) -> list[str]:
    """Greedy replies: the same prompt has the same one, so each is generated once."""
    unique = list(dict.fromkeys(prompts))
    known = dict(zip(unique, reply(unique), strict=True))
    return [known[prompt] for prompt in prompts]


def likeliest(
    loglikelihood: Callable[[Pairs], list[Likelihood]],
    prompts: Sequence[str],
    choices: Sequence[Sequence[str]],
) -> list[int]:
    """For each prompt the index of the choice with the best mean token log-likelihood.

    Raises:
        BadInput: for a prompt without choices, or other numbers of prompts and lists of choices.
    """
    if len(prompts) != len(choices):
        raise BadInput(f"{len(prompts)} prompts came with {len(choices)} lists of choices")
    for number, options in enumerate(choices, 1):
        if not options:
            raise BadInput(f"prompt number {number} has no choices; give at least one")
    pairs = [(p, c) for p, options in zip(prompts, choices, strict=True) for c in options]
    means = iter([likelihood.mean for likelihood in loglikelihood(pairs)])
    picks = []
    for options in choices:
        scores = [next(means) for _ in options]
        picks.append(max(range(len(scores)), key=scores.__getitem__))
    return picks


def chat_by_schema(
    engine: ChatEngine, messages: Sequence[str], *, schema: Mapping[str, Any], max_tokens: int
) -> list[str]:
    """Greedy replies, held to a JSON schema by an engine that can do so."""
    if isinstance(engine, SchemaEngine):
        return engine.chat_json(messages, schema=schema, max_tokens=max_tokens)
    return engine.chat(messages, max_tokens=max_tokens)


def first_line(error: BaseException) -> str:
    """What an error of other code says, as a part of a sentence: two lines, 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__
