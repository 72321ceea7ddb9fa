"""Questions on their way to become probes: the message that asks for one, and what was written."""

from __future__ import annotations

import re
from dataclasses import dataclass

from synth.probes.probe import Axis, Form
from synth.writing.taxonomy import fill

_NUMBERING = re.compile(r"^(?:\d+[.)]|[-*•]|(?:question|q)\s*\d*\s*:)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ask:
    """A message that asks a model for one question.

    Args:
        category: of the question.
        template: before anything was filled in.
        message: after it.
        passage: that the question is about, if any.
    """

    category: str
    template: str
    message: str
    passage: str = ""


def ask(template: str, category: str, /, **fields: str) -> Ask:
    """The template with its fields filled in."""
    return Ask(category, template, fill(template, **fields))


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote: text, SHA-256 of the template with what was put after it, sampling."""

    text: str
    template: str
    temperature: float
    seed: int


@dataclass(frozen=True, slots=True)
class Question:
    """A written question that has no answer yet."""

    axis: Axis
    category: str
    generator: str
    written: Written
    terms: tuple[str, ...] = ()
    group: str = ""
    form: Form = "direct"
    passage: str = ""

    @property
    def prompt(self) -> str:
        """Its text."""
        return self.written.text


def clean(reply: str) -> str:
    """The question in a writer's reply: its first line, without numbering and quotation marks."""
    lines = [line.strip() for line in reply.splitlines() if line.strip()]
    text = _NUMBERING.sub("", lines[0]) if lines else ""
    for left, right in (('"', '"'), ("“", "”")):
        if len(text) > 1 and text[0] == left and text[-1] == right:
            text = text[1:-1].strip()
    return text
