"""Questions on their way to become probes: the message that asks for one, and what was written."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace

from synth.checkers.check import Check
from synth.gates.unsound import is_copied
from synth.grading import with_check
from synth.probes.origin import Origin
from synth.probes.probe import Axis, Form, Probe
from synth.text.reply import read_reply
from synth.writing.taxonomy import fill

_NUMBERING = re.compile(r"^(?:\d+[.)]|[-*•]|(?:question|q)\s*\d*\s*:)\s*", re.IGNORECASE)
_INTRODUCED = re.compile(r":\s*[\"“]([^\"“”\n]{8,}\?)[\"”]")
_NEAR = 4  # lines in which a question is looked for


@dataclass(frozen=True, slots=True)
class Question:
    """A question that is no probe yet; fields that a stage has not come to have their defaults."""

    # axis, category: as of the probe
    axis: Axis
    category: str
    prompt: str = ""  # its text; "" before it is written, and where a reply held none
    generator: str = "user"  # pool model that wrote it, or "user"
    template: str = ""  # SHA-256 of the template with what was put after it
    copied: bool = False  # it is a piece of that template
    # temperature, seed: with which it was sampled
    temperature: float = 0.0
    seed: int = 0
    # terms, group, form: as of the probe
    terms: tuple[str, ...] = ()
    group: str = ""
    form: Form = "direct"
    passage: str = ""  # that it is about, if any
    answer: str = ""  # that is wanted
    check: Check | None = None  # how replies are graded; None as is expected of axis and answer

    def probe(self, answer: str, answerer: str, origin: Origin | None) -> Probe:
        """The probe that it becomes with this answer."""
        probe = Probe(
            axis=self.axis,
            category=self.category,
            prompt=self.prompt,
            answer=answer,
            generator=self.generator,
            answerer=answerer,
            seed=self.seed,
            group=self.group,
            terms=self.terms,
            form=self.form,
            origin=origin,
            check=self.check,
        )
        return with_check(probe)


@dataclass(frozen=True, slots=True)
class QuestionRequest:
    """A message that asks a model for one question."""

    draft: Question  # the question, without what the model will write
    template: str  # of the message, before anything was filled in
    message: str  # after it

    def followed_by(self, template: str, **fields: str) -> QuestionRequest:
        """The same request with another part after an empty line."""
        return replace(
            self,
            template=f"{self.template}\n\n{template}",
            message=f"{self.message}\n\n{fill(template, **fields)}",
        )

    def written(self, text: str, generator: str, tail: str) -> Question:
        """The question that a model wrote when asked with `tail` after the message."""
        template = f"{self.template} {tail}".strip()
        digest = hashlib.sha256(template.encode()).hexdigest()
        copied = bool(text) and is_copied(text, template)
        return replace(self.draft, prompt=text, generator=generator, template=digest, copied=copied)


def request(draft: Question, template: str, /, **fields: str) -> QuestionRequest:
    """A request by the template, with its fields filled in."""
    return QuestionRequest(draft, template, fill(template, **fields))


def clean(reply: str) -> str:
    """The question in a writer's reply, without numbering and quotation marks.

    It is the first line, or else what follows an introduction: a question in quotation marks, after
    a colon or in a line of its own, or a later line that asks.
    """
    answer = read_reply(reply).answer
    lines = [_NUMBERING.sub("", line.strip()) for line in answer.splitlines() if line.strip()]
    if not lines:
        return ""
    first = lines[0]
    quoted = _INTRODUCED.search("\n".join(lines[:_NEAR]))
    if quoted is not None:
        return quoted[1].strip()
    if "?" not in first:
        first = next((line for line in lines[1:_NEAR] if line.endswith("?")), first)
    for left, right in (('"', '"'), ("“", "”")):
        if len(first) > 1 and first[0] == left and first[-1] == right:
            first = first[1:-1].strip()
    return first
