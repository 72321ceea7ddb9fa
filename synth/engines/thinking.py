"""How a chat template makes a model think, and where its answer begins.

Thinking models write their reasoning between marks of their family before they answer. A template
may open such a block for them, write an empty one, or ask for it in its system text, and may have a
switch. All of this is read off what the template writes, never off a model's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from safemerge.errors import BadInput

Thinking = Literal["off", "empty", "free"]


@dataclass(frozen=True, slots=True)
class Marks:
    """What a family of models writes around its thinking."""

    opens: str
    closes: str
    shut: str  # from an opened block to the answer, where a template does not show it

    @property
    def block(self) -> str:
        """A whole block without a thought."""
        return self.opens + ("\n" if self.shut.startswith("\n") else "") + self.shut

    @property
    def channels(self) -> bool:
        """Each message of a reply names its channel, as those of gpt-oss do."""
        return self.opens.startswith("<|channel|>")


# The formats are those of the families' own chat templates.
_FAMILIES = (
    Marks("<think>", "</think>", "\n</think>\n\n"),  # Qwen3, DeepSeek R1, SmolLM3, GLM, Nemotron
    Marks(  # gpt-oss
        "<|channel|>analysis<|message|>",
        "<|channel|>final<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    Marks("[THINK]", "[/THINK]", "[/THINK]"),  # Magistral, Ministral
    Marks("<seed:think>", "</seed:think>", "</seed:think>"),  # Seed-OSS
    Marks("<|START_THINKING|>", "<|END_THINKING|>", "<|END_THINKING|>"),  # Command A
    Marks("<|channel>thought", "<channel|>", "\n<channel|>"),  # Gemma 4
    Marks("<|inner_prefix|>", "<|inner_suffix|>", "<|inner_suffix|>"),  # Apertus
    Marks("◁think▷", "◁/think▷", "◁/think▷"),  # Kimi
    Marks(  # Apriel
        "Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", "\n[BEGIN FINAL RESPONSE]\n"
    ),
)
# Marks that are whole tokens where a model has them.
MARKS = frozenset(
    mark for family in _FAMILIES if not family.channels for mark in (family.opens, family.closes)
)
# Variables by which templates are told not to think, or to.
_OFF: tuple[dict[str, Any], ...] = (
    {"enable_thinking": False},
    {"thinking": False},
    {"reasoning": False},
    {"thinking_budget": 0},
    {"reasoning_effort": "none"},
)
_ON: tuple[dict[str, Any], ...] = (
    {"enable_thinking": True},
    {"thinking": True},
    {"reasoning": True},
)
_NOTE = "/no_think"  # in the system message, by which Nemotron's templates are told


@dataclass(frozen=True, slots=True)
class Shown:
    """What a template writes around one prompt and its answer, under certain variables."""

    before: str  # before the prompt
    opening: str  # from the prompt to where a reply begins
    answered: str | None  # from the prompt to an answer that was given; None where it shows none
    reasoned: str | None  # the same where the model has reasoned, the reasoning left out


@dataclass(frozen=True, slots=True)
class ThinkingPlan:
    """How a template is used so that a model thinks, or does not."""

    variables: Mapping[str, Any] = field(default_factory=dict)  # for the template
    note: str = ""  # for the system message
    before_reply: str = ""  # put behind the generation prompt before a reply is generated
    before_answer: str = ""  # put there before an answer is scored: it ends the thinking
    marks: Marks | None = None  # None: the template knows no thinking
    opened: bool = False  # a reply begins inside the thinking


Show = Callable[[Mapping[str, Any], str], Shown | None]


def plan_thinking(thinking: Thinking, source: str, show: Show) -> ThinkingPlan:
    """Find out how a template is used in a mode.

    Args:
        thinking: "off": by the template's own switch, or because it does not think anyway; "empty":
            an empty block stands before every answer; "free": the model thinks.
        source: the template itself, in which the marks of its family stand.
        show: what it writes under variables and with a note in the system message; None where it
            fails, which it does not without either.

    Raises:
        BadInput: for a model that always thinks and should not, an empty block where there is none,
            or thinking between unknown marks.
    """
    marks = next((m for m in _FAMILIES if m.opens in source or m.closes in source), None)
    plain = show({}, "")
    assert plain is not None
    off = _switched_off(marks, source, plain, show)
    if marks is None and plain.reasoned is not None and (off is None or thinking != "off"):
        raise BadInput(
            "the chat template writes a model's thinking between marks that are not known here; "
            "choose another format by template under [models], such as chatml"
        )
    if thinking == "off":
        if off is None:
            raise BadInput(
                "the chat template makes the model think and has no switch against it; set "
                'thinking = "empty" under [models] (an empty thinking block stands before every '
                'answer) or "free" (the model thinks, and what follows counts)'
            )
        variables, note, shown = off
        lead = _after_opening(marks, shown)
        return ThinkingPlan(variables, note, lead, lead, marks)
    if thinking == "empty" and off is not None and _state(marks, off[2].opening) == "closed":
        return plan_thinking("off", source, show)  # the switch writes the empty block
    variables, shown = _changed(_ON, plain, show)[0]
    ending = _ending_thought(marks, shown, None if off is None else off[2])
    if thinking == "empty":
        if ending is None:
            raise BadInput(
                'thinking = "empty" puts an empty thinking block before every answer, but the chat '
                'template knows none; set thinking = "off" under [models]'
            )
        return ThinkingPlan(variables, "", ending, ending, marks)
    after = _after_opening(marks, shown)
    return ThinkingPlan(
        variables,
        "",
        # What a model writes behind its thoughts must not stand before them.
        after if marks is None else "",
        after if ending is None else ending,
        marks,
        _state(marks, shown.opening) == "open",
    )


def _switched_off(
    marks: Marks | None, source: str, plain: Shown, show: Show
) -> tuple[Mapping[str, Any], str, Shown] | None:
    """Variables and note under which a template does not think; None where there are none."""
    for variables, shown in _changed(_OFF, plain, show):
        if variables and not _thinks(marks, shown):
            return variables, "", shown
    if not _thinks(marks, plain) and (marks is not None or plain.reasoned is None):
        return {}, "", plain
    noted = show({}, _NOTE) if _NOTE in source else None
    return None if noted is None or _thinks(marks, noted) else ({}, _NOTE, noted)


def _changed(
    choices: Sequence[Mapping[str, Any]], plain: Shown, show: Show
) -> list[tuple[Mapping[str, Any], Shown]]:
    """The variables that change what is written, with what is; at the end, none of them."""
    tried = ((variables, show(variables, "")) for variables in choices)
    found = [(name, shown) for name, shown in tried if shown is not None and shown != plain]
    return [*found, ({}, plain)]


def _thinks(marks: Marks | None, shown: Shown) -> bool:
    if marks is None or _state(marks, shown.opening) == "closed":
        return False
    told = marks.opens in shown.before or marks.closes in shown.before
    if told or _state(marks, shown.opening) == "open":
        return True
    # An old answer has a block before it that the generation prompt leaves to the model.
    return shown.answered is not None and _state(marks, shown.answered) == "closed"


def _state(marks: Marks | None, text: str) -> Literal["open", "closed", "none"]:
    """What has become of the last thinking block in `text`."""
    if marks is None:
        return "none"
    opens, closes = text.rfind(marks.opens), text.rfind(marks.closes)
    if opens < 0:
        # A closing mark on its own, as of GLM 4.7, stands right before the answer.
        return "closed" if closes >= 0 and text.rstrip().endswith(marks.closes) else "none"
    return "closed" if closes > opens else "open"


def _ending_thought(marks: Marks | None, shown: Shown, off: Shown | None) -> str | None:
    """What ends the thinking behind the generation prompt and leads to the answer.

    `off` is what the template writes where it is told not to think.
    """
    if marks is None or _state(marks, shown.opening) == "closed":
        return None
    switched = None if off is None else off.opening + _after_opening(marks, off)
    for written in (shown.reasoned, shown.answered, switched):
        whole = written is not None and _state(marks, written) == "closed"
        if written is not None and whole and written.startswith(shown.opening):
            return written[len(shown.opening) :]
    if _state(marks, shown.opening) == "open":
        return marks.shut
    if marks.opens in shown.before or marks.closes in shown.before:
        return marks.block
    return None


def _after_opening(marks: Marks | None, shown: Shown) -> str:
    """What the template writes between the generation prompt and an answer, mostly nothing."""
    opening, answered = shown.opening, shown.answered
    if answered is None:
        return ""
    if answered.startswith(opening):
        return answered[len(opening) :]
    # Many templates leave the block of an old answer out, or that of a new one.
    opening, answered = _without_block(marks, opening), _without_block(marks, answered)
    return answered[len(opening) :] if answered.startswith(opening) else ""


def _without_block(marks: Marks | None, text: str) -> str:
    if marks is not None and marks.opens in text:
        return text[: text.rfind(marks.opens)]
    if marks is not None and text.rstrip().endswith(marks.closes):
        return text.rstrip().removesuffix(marks.closes)
    return text
