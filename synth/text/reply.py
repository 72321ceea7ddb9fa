"""What a reply says, apart from what it thinks: the one reader of replies.

Thinking models write their reasoning before the answer, each family between marks of its own. Only
what follows is the answer, for checks, judges and grammars alike. A reply that ends inside its
thinking has no answer.

    <think>..</think>, also thinking, thought, reasoning, seed:think   Qwen3, DeepSeek R1
    [THINK]..[/THINK]                                                  Magistral
    <|START_THINKING|>..<|END_THINKING|>                               Command A
    <|begin_of_thought|>..<|end_of_thought|>                           OpenThinker, Sky-T1
    <|channel>thought..<channel|>                                      Gemma 4
    <unused94>thought..<unused95>                                      MedGemma
    ◁think▷..◁/think▷                                                  Kimi
    Here is my thought process:..Here is my response:                  Granite 3.2
    <|channel|>analysis<|message|>..<|channel|>final<|message|>        gpt-oss
    analysis..assistantfinal                                           the same without marks

Where the generation prompt itself opens the thinking, the reply holds the closing mark alone: all
before it is thinking. If such a reply is cut off before the mark, its text does not show it; who
knows the prompt puts the opening mark before the reply.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadReply:
    """A reply, taken apart."""

    answer: str  # what a user is told, without white space around it; "" if there is nothing
    thinking: str  # what was thought before and between, without its marks; "" if nothing
    cut_off: bool  # the thinking never ends, so that there is no answer


# Opening and closing mark of each family.
_PAIRS = [
    *(
        (rf"<{name}>", rf"</{name}>")
        for name in ("think", "thinking", "thought", "reasoning", "seed:think")
    ),
    (r"\[THINK\]", r"\[/THINK\]"),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (r"<\|channel>thought\b", r"<channel\|>"),
    (r"<unused94>(?:thought\b)?", r"<unused95>"),
    (r"◁think▷", r"◁/think▷"),
]
# An opening mark counts at the start of a line, and after a closing one; inside a sentence it is
# talk about marks.
_OPEN = re.compile(
    r"(?:\A|\n)[ \t]*(?:" + "|".join(f"({first})" for first, _ in _PAIRS) + ")", re.IGNORECASE
)
_CLOSE = [re.compile(last, re.IGNORECASE) for _, last in _PAIRS]
_ANY_CLOSE = re.compile("|".join(last for _, last in _PAIRS), re.IGNORECASE)
_GRANITE = re.compile(r"\s*Here(?: is|'s) my thought process:", re.IGNORECASE)
_GRANITE_ANSWER = re.compile(r"Here(?: is|'s) my response:", re.IGNORECASE)
# gpt-oss; a channel may name a recipient or a format before its message.
_HARMONY = re.compile(r"\s*(?:<\|start\|>assistant)?<\|channel\|>")
_FINAL = re.compile(r"<\|channel\|>final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_HARMONY_END = re.compile(r"<\|(?:return|end|call)\|>")
_HARMONY_MARK = re.compile(r"<\|start\|>assistant|<\|channel\|>\w*|<\|\w+\|>")
# "analysis" and a capital, without a space between: no sentence begins so.
_BARE_HARMONY = re.compile(r"\s*analysis(?=[A-Z\d\"'*(\[])")
_BARE_FINAL = "assistantfinal"
# Frames of the answer itself, as in DeepSeek R1 Zero, Granite 3.3, Command A and Sky-T1.
_FRAME = re.compile(
    r"</?(?:answer|response)>|<\|(?:START|END)_RESPONSE\|>|<\|(?:begin|end)_of_solution\|>",
    re.IGNORECASE,
)


def read_reply(text: str) -> ReadReply:
    """The answer and the thinking in a reply as a model gave it."""
    if _HARMONY.match(text) or _BARE_HARMONY.match(text):
        return _harmony(text)
    thoughts: list[str] = []
    shown: list[str] = []
    granite = _GRANITE.match(text)
    if granite is not None:
        answer = _GRANITE_ANSWER.search(text, granite.end())
        if answer is None:
            return ReadReply("", text[granite.end() :].strip(), cut_off=True)
        thoughts.append(text[granite.end() : answer.start()])
        text = text[answer.end() :]
    while (start := _OPEN.search(text)) is not None:
        before = text[: start.start()]
        stray = _ANY_CLOSE.search(before)
        if stray is not None:
            # The prompt opened this one.
            thoughts += [*shown, before[: stray.start()]]
            shown, text = [], text[stray.end() :]
            continue
        end = _CLOSE[(start.lastindex or 1) - 1].search(text, start.end())
        if end is None:
            # An answer that goes on to think without end was not finished either.
            return ReadReply("", _joined([*thoughts, text[start.end() :]]), cut_off=True)
        thoughts.append(text[start.end() : end.start()])
        shown.append(before)
        text = text[end.end() :]
    stray = _ANY_CLOSE.search(text)
    if stray is not None:
        thoughts += [*shown, text[: stray.start()]]
        shown, text = [], _ANY_CLOSE.sub("", text[stray.end() :])
    return ReadReply(_FRAME.sub("", _joined([*shown, text])).strip(), _joined(thoughts), False)


def _harmony(text: str) -> ReadReply:
    marked = _HARMONY.match(text) is not None
    if marked:
        starts = list(_FINAL.finditer(text))
        before, after = (
            (text[: starts[0].start()], text[starts[0].end() :]) if starts else (text, None)
        )
        thinking = " ".join(_HARMONY_MARK.sub(" ", before).split())
    else:
        before, mark, rest = text.partition(_BARE_FINAL)
        after = rest if mark else None
        thinking = before.strip().removeprefix("analysis").strip()
    if after is None:
        return ReadReply("", thinking, cut_off=True)
    return ReadReply(_HARMONY_END.split(after)[0].strip(), thinking, cut_off=False)


def _joined(parts: list[str]) -> str:
    return "\n".join(part.strip() for part in parts if part.strip())
