"""From prompt and answer text to token ids, through the model's own chat template.

A template is checked once, when it is opened, with messages of known content: the prompt must be in
what the model reads, once, and before the answer. Texts are data: a special token or a mark of the
template spelled out inside a prompt or an answer is broken up before rendering, so that no text can
end its own turn, open a new one, or begin or end a thought.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Any, get_args

from safemerge.errors import BadInput, near_names
from synth.engines.conversation import Prompt, chat_messages
from synth.engines.named_templates import choose_template
from synth.engines.template_checks import check_prompt, check_system, end_of_turn, show
from synth.engines.template_writer import TemplateWriter
from synth.engines.thinking import MARKS, Thinking, ThinkingPlan, plan_thinking


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """How a model is talked to."""

    # one of the model's chat templates or of the known formats by name, or a template as Jinja
    # text; None: its own default
    template: str | None = None
    thinking: Thinking = "off"
    thinking_tokens: int = 1024  # longest thinking, on top of a reply's max_tokens; "free" alone
    variables: Mapping[str, Any] = field(default_factory=dict)  # of the template, by its names

    def __post_init__(self) -> None:
        if self.thinking not in get_args(Thinking):
            raise BadInput(
                f"thinking is {self.thinking!r}; {near_names(self.thinking, get_args(Thinking))}"
            )


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A model's chat template, checked, and what follows from it; made by `open_template`."""

    writer: TemplateWriter
    plan: ThinkingPlan
    folded: bool  # the system message goes into the user's, because the template has none
    system_problem: str  # why no system message can be given; "" where one can
    before_reply: str  # behind the generation prompt where a reply is generated
    before_answer: str  # behind it where an answer is scored: no thinking is open after it
    head: str  # white space that the template writes before an answer
    tail: str  # text after the answer: the end of turn
    stops: frozenset[int]  # token ids that end a reply
    budget: int  # tokens that a reply may have on top of max_tokens
    broken: tuple[str, ...]  # what no text may hold
    hidden: frozenset[int]  # special tokens that no reply shows

    def render(
        self, prompts: Sequence[Prompt], *, system: str | None = None, answer: bool = False
    ) -> list[str]:
        """Prompts as text that a reply continues, or where `answer` is set one without thinking.

        Raises:
            BadInput: if the template refuses the messages.
        """
        behind = self.before_answer if answer else self.before_reply
        asked = (self.messages(prompt, system) for prompt in prompts)
        return [self.writer.write(messages, self.plan.variables) + behind for messages in asked]

    def messages(self, prompt: Prompt, system: str | None) -> list[dict[str, str]]:
        """What is rendered: messages whose texts are broken up by `plain`; raises as `render`."""
        messages = chat_messages(prompt, self.plain)
        texts = [self.plain(system or "")]
        if messages[0]["role"] == "system":
            texts.append(messages.pop(0)["content"])
        text = "\n\n".join(text for text in (*texts, self.plan.note) if text)
        if not text:
            return messages
        if self.system_problem:
            raise BadInput(self.system_problem)
        if not self.folded:
            return [{"role": "system", "content": text}, *messages]
        first, *others = messages
        return [{**first, "content": f"{text}\n\n{first['content']}"}, *others]

    @property
    def variables(self) -> dict[str, Any]:
        """What the template is told, by its own names."""
        return {**self.plan.variables, **self.writer.variables}

    def tokenize(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """Token ids (prompt, answer with its end of turn) of each (prompt, answer).

        The two are tokenised as one text where that keeps the prompt's tokens, because that is how
        a tokenizer with leading spaces or word pieces continues a prompt; else piece by piece.
        """
        if not pairs:
            return []
        opened = self.render([prompt for prompt, _ in pairs], answer=True)
        replies = [self.head + self.plain(answer) + self.tail for _, answer in pairs]
        prompts = self.ids(opened)
        whole = self.ids([a + b for a, b in zip(opened, replies, strict=True)])
        apart = self.ids(replies)
        encoded = []
        for prompt, full, alone in zip(prompts, whole, apart, strict=True):
            answer = full[len(prompt) :] if full[: len(prompt)] == prompt else alone
            # A template may add text after the end of turn ("\n"), which no model ever generates.
            end = next((i for i, token in enumerate(answer) if token in self.stops), len(answer))
            encoded.append((prompt, answer[: end + 1]))
        return encoded

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of rendered texts, which hold their own special tokens."""
        if not texts:
            return []
        tokens = self.writer.tokenizer(list(texts), add_special_tokens=False)
        ids: list[list[int]] = tokens["input_ids"]
        return ids

    def decode(
        self, rows: Sequence[Sequence[int]], stops: frozenset[int], *, answer: bool = False
    ) -> list[str]:
        """Generated tokens as replies, each up to its first end of turn; see `finish`."""
        replies = [
            [i for i in takewhile(lambda token: token not in stops, row) if i not in self.hidden]
            for row in rows
        ]
        if not replies:  # of none, transformers makes one empty text
            return []
        texts = self.writer.tokenizer.batch_decode(replies, skip_special_tokens=False)
        return [self.finish(text, answer=answer) for text in texts]

    def finish(self, text: str, *, answer: bool = False) -> str:
        """What was generated behind `render` as a reply: up to the end of a plain format's answer.

        Thinking is marked by `<think>` and `</think>`, or by the channels of gpt-oss. A text that
        began inside a block opened by the template gets the opening mark, so that its thinking can
        be told from an answer even where it was cut off.
        """
        for word in self.writer.form.frame:
            text = text.partition(word)[0]
        marks = self.plan.marks
        if marks is not None:
            if self.plan.opened and not answer:
                text = f"{marks.opens}\n{text}"
            if not marks.channels:
                text = text.replace(marks.opens, "<think>").replace(marks.closes, "</think>")
        return text.strip()

    def plain(self, text: str) -> str:
        """`text` with a space behind the first character of all that the template gives a meaning.

        That is every special token, other token of the template, mark of thinking, and word of a
        plain format's frame.
        """
        for mark in self.broken:
            if mark in text:
                text = text.replace(mark, f"{mark[0]} {mark[1:]}")
        return text

    def sign(self, digest: str) -> str:
        """SHA-256 over a digest of weights and what a model reads around a prompt, 64 digits."""
        return hashlib.sha256(f"{digest} {self.fingerprint()}".encode()).hexdigest()

    def fingerprint(self) -> str:
        """SHA-256 over all that decides what a model reads around a prompt, 64 hex digits."""
        plan = self.plan
        around = [self.before_reply, self.before_answer, self.head, self.tail, plan.note]
        settings = [self.variables, self.budget, self.folded]
        form = [self.writer.form.text, self.writer.parts, around, settings]
        return hashlib.sha256(json.dumps(form, sort_keys=True, default=str).encode()).hexdigest()


def open_template(tokenizer: Any, settings: ChatSettings | None = None) -> ChatTemplate:
    """Choose, check and describe the chat template of a tokenizer.

    Raises:
        BadInput: if there is none, if it drops, doubles or moves a message or fails on one, if the
            model cannot be made to think as wanted, or if no reply would end.
    """
    settings = settings or ChatSettings()
    form = choose_template(tokenizer, settings.template)
    writer = check_prompt(TemplateWriter(tokenizer, form, settings.variables))
    folded, system_problem = check_system(writer)
    plan = plan_thinking(settings.thinking, form.text, partial(show, writer))
    # White space alone, and spaces at the end, belong to the first token of what follows.
    before_answer = plan.before_answer.rstrip(" ") if plan.before_answer.strip() else ""
    tail, stops = end_of_turn(writer, plan.variables)
    marks = plan.marks
    around = set() if marks is None else {marks.opens, marks.closes}
    shown = "" if marks is None else marks.block + marks.closes
    special = writer.special_tokens().items()
    return ChatTemplate(
        writer=writer,
        plan=plan,
        folded=folded,
        system_problem=system_problem,
        before_reply=plan.before_reply.rstrip(" ") if plan.before_reply.strip() else "",
        before_answer=before_answer,
        head=plan.before_answer.removeprefix(before_answer),
        tail=tail,
        stops=stops,
        budget=settings.thinking_tokens if settings.thinking == "free" else 0,
        # In a fixed order, because one token may be part of another. A one-character special token
        # cannot be broken up; it carries no turn structure.
        broken=tuple(
            mark
            for mark in sorted({*writer.control_tokens(), *around, *form.frame})
            if len(mark) > 1
        ),
        hidden=frozenset(i for i, t in special if t not in shown and t not in MARKS),
    )
