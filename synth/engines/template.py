"""From prompt and answer text to token ids, through the model's own chat template.

Texts are data: a special token spelled out inside a prompt or an answer is broken up before
rendering, so that no text can end its own turn or open a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from safemerge.errors import BadInput
from synth.engines.conversation import Prompt, chat_messages

_ANSWER = "ANSWER"


@dataclass(frozen=True, slots=True)
class Turn:
    """What a template puts around an assistant's answer, as text, and where a reply stops."""

    head: str  # text between the generation prompt and the answer, mostly empty
    tail: str  # text after the answer: the end of turn
    stops: frozenset[int]  # token ids that end a reply


def render(tokenizer: Any, prompts: Sequence[Prompt], *, system: str | None = None) -> list[str]:
    """Prompts as text ready for generation.

    Raises:
        BadInput: if the tokenizer has no chat template, or the template refuses the messages.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise BadInput(
            "the tokenizer has no chat template; add chat_template.jinja to the model's folder or "
            "set tokenizer.chat_template"
        )
    before = [] if system is None else [{"role": "system", "content": plain(tokenizer, system)}]
    conversations = [
        [*before, *chat_messages(prompt, partial(plain, tokenizer))] for prompt in prompts
    ]
    return [_apply(tokenizer, conversation, add_prompt=True) for conversation in conversations]


def turn(tokenizer: Any) -> Turn:
    """The end of turn by the template itself, or else the eos token; a BadInput without either."""
    opening = render(tokenizer, ["x"])[0]
    eos = tokenizer.eos_token_id
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _ANSWER}]
    closed = _apply(tokenizer, messages, add_prompt=False)
    suffix = closed[len(opening) :] if closed.startswith(opening) else ""
    head, marker, tail = suffix.partition(_ANSWER)
    ids: list[int] = tokenizer(tail, add_special_tokens=False)["input_ids"] if tail else []
    known = {*tokenizer.all_special_ids, *_added(tokenizer)}
    special = [i for i in ids if i in known]
    if marker and special:
        return Turn(head, tail, frozenset(special[:1] if eos is None else [special[0], eos]))
    if eos is None:
        raise BadInput(
            "the chat template ends an answer with no special token and the tokenizer has no eos "
            "token, so a reply would never stop; set tokenizer.eos_token"
        )
    return Turn(head if marker else "", tokenizer.eos_token, frozenset([eos]))


def plain(tokenizer: Any, text: str) -> str:
    """`text` with every spelled-out special token broken by a space after its first character."""
    # In a fixed order, because one token may be part of another.
    for token in sorted({*tokenizer.all_special_tokens, *_added(tokenizer).values()}):
        # A one-character special token cannot be broken up; it carries no turn structure.
        if len(token) > 1 and token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def tokenize(tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
    """Token ids (prompt, answer with its end of turn) of each (prompt, answer).

    The two are tokenised as one text where that keeps the prompt's tokens, because that is how a
    tokenizer with leading spaces or word pieces continues a prompt; else piece by piece.
    """
    if not pairs:
        return []
    around = turn(tokenizer)
    opened = render(tokenizer, [prompt for prompt, _ in pairs])
    replies = [around.head + plain(tokenizer, answer) + around.tail for _, answer in pairs]
    prompts = tokenizer(opened, add_special_tokens=False)["input_ids"]
    whole = tokenizer([a + b for a, b in zip(opened, replies, strict=True)], **_BARE)["input_ids"]
    apart = tokenizer(replies, **_BARE)["input_ids"]
    encoded = []
    for prompt, full, alone in zip(prompts, whole, apart, strict=True):
        answer = full[len(prompt) :] if full[: len(prompt)] == prompt else alone
        # A template may add text after the end of turn ("\n"), which no model ever generates.
        end = next((i for i, token in enumerate(answer) if token in around.stops), len(answer))
        encoded.append((prompt, answer[: end + 1]))
    return encoded


def decode(tokenizer: Any, rows: Sequence[Sequence[int]], stops: frozenset[int]) -> list[str]:
    """Replies as text, each up to its first end of turn."""
    replies = [list(takewhile(lambda token: token not in stops, row)) for row in rows]
    texts: list[str] = tokenizer.batch_decode(replies, skip_special_tokens=True)
    return [text.strip() for text in texts]


def _added(tokenizer: Any) -> dict[int, str]:
    """Special tokens that were added to the vocabulary without a role of their own."""
    tokens = tokenizer.added_tokens_decoder.items()
    return {place: str(token) for place, token in tokens if token.special}


_BARE = {"add_special_tokens": False}


def _apply(tokenizer: Any, conversation: list[dict[str, str]], *, add_prompt: bool) -> str:
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=add_prompt
        )
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in conversation)
        raise BadInput(
            f"the chat template refuses a conversation with the roles {roles} ({error}); "
            "leave the system message out or mend the template"
        ) from error
    return str(text)
