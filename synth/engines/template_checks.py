"""What a chat template does with messages of known content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from safemerge.errors import BadInput
from synth.engines.template_writer import MEND, TemplateWriter
from synth.engines.thinking import Shown

_PROMPT, _SYSTEM = "What is on the shelf, and who put it there?", "Speak of lamps and of shelves."
_THOUGHT = "Lamps often are on shelves."
_QUESTION = {"role": "user", "content": _PROMPT}
_ANSWER = {"role": "assistant", "content": "The red lamp is on it."}


def check_prompt(writer: TemplateWriter) -> TemplateWriter:
    """The writer, with contents in parts where only so the prompt is in what the model reads.

    Raises:
        BadInput: if the template drops, changes, doubles or moves the prompt, or fails on it.
    """
    problems = []
    for tried in (writer, replace(writer, parts=True)):
        try:
            text = tried.write([_QUESTION], {})
        except BadInput as error:
            problems.append(str(error))
            continue
        # Parts that are written as the list they are, with its brackets, are no message.
        times = 0 if tried.parts and "'text'" in text else text.count(_PROMPT)
        turn = _attempt(tried, [_QUESTION, _ANSWER])
        if times != 1:
            what = f"writes {times} times" if times else "leaves out or changes"
            problems.append(
                f"the chat template {what} the user's message, so the model would not read what it "
                f"is asked; {MEND}"
            )
        elif turn is not None and not _in_order(turn, _PROMPT, _ANSWER["content"]):
            problems.append(
                "the chat template puts an answer before its question, or writes one of them more "
                f"than once; {MEND}"
            )
        else:
            return tried
    raise BadInput(problems[0])


def check_system(writer: TemplateWriter) -> tuple[bool, str]:
    """Whether a system message goes into the user's, and why none can be given ("": it can)."""
    text = _attempt(writer, [{"role": "system", "content": _SYSTEM}, _QUESTION])
    if text is None or _SYSTEM not in text:
        return True, ""
    if _PROMPT in text and _in_order(text, _SYSTEM, _PROMPT):
        return False, ""
    return False, (
        "the chat template does not write a system message before the user's, each once; leave the "
        f"system message out, {MEND}"
    )


def show(writer: TemplateWriter, variables: Mapping[str, Any], note: str) -> Shown | None:
    """What the template writes around a prompt and an answer, with a note as system message.

    None where it fails, or leaves the prompt out.
    """
    asked = [{"role": "system", "content": note}, _QUESTION] if note else [_QUESTION]
    before, prompt, opening = (_attempt(writer, asked, variables) or "").partition(_PROMPT)
    if not prompt:
        return None
    # Templates read the reasoning of an old turn under one of these names.
    names = ("reasoning_content", "thinking", "reasoning")
    thought = {**_ANSWER, **dict.fromkeys(names, _THOUGHT)}
    answered, reasoned = (
        _between(_attempt(writer, [*asked, answer], variables)) for answer in (_ANSWER, thought)
    )
    if reasoned is not None:
        reasoned = reasoned.replace(_THOUGHT, "") if _THOUGHT in reasoned else None
    return Shown(before, opening, answered, reasoned)


def end_of_turn(writer: TemplateWriter, variables: Mapping[str, Any]) -> tuple[str, frozenset[int]]:
    """What stands behind an answer, and the token ids that end a reply.

    By the template itself, where it has a special token there, or else by the eos token; a BadInput
    without either.
    """
    tokenizer = writer.tokenizer
    turn = _attempt(writer, [_QUESTION, _ANSWER], variables)
    tail = (turn or "").partition(_ANSWER["content"])[2]
    ids: list[int] = tokenizer(tail, add_special_tokens=False)["input_ids"] if tail else []
    known = {*tokenizer.all_special_ids, *writer.special_tokens()}
    special = [i for i in ids if i in known]
    eos = tokenizer.eos_token_id
    if special:
        return tail, frozenset(special[:1] if eos is None else [special[0], eos])
    if eos is None:
        raise BadInput(
            "the chat template ends an answer with no special token and the tokenizer has no eos "
            "token, so a reply would never stop; set tokenizer.eos_token"
        )
    return writer.form.end or tokenizer.eos_token, frozenset([eos])


def _attempt(
    writer: TemplateWriter,
    messages: Sequence[Mapping[str, str]],
    variables: Mapping[str, Any] | None = None,
) -> str | None:
    """What the template writes of a conversation, or None where it refuses it."""
    closed = messages[-1]["role"] == "assistant"
    try:
        return writer.write(messages, variables or {}, add_prompt=not closed)
    except BadInput:
        return None


def _between(turn: str | None) -> str | None:
    """From the prompt to the answer of a finished turn."""
    if turn is None or _PROMPT not in turn or _ANSWER["content"] not in turn:
        return None
    return turn.partition(_PROMPT)[2].partition(_ANSWER["content"])[0]


def _in_order(text: str, first: str, second: str) -> bool:
    """Each is there once, the first one first; a text without the second is in order."""
    return second not in text or (
        text.count(first) == text.count(second) == 1 and text.find(first) < text.find(second)
    )
