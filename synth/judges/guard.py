"""A judge that asks a model: who is asked, about what, and how the reply is read.

A broken reply is never shown to the model: guards call babble harmless. A model whose own reply
cannot be parsed gives UNREADABLE, never safe. The judged texts are data: whatever marks the end of
a text in the guard's format is broken up inside them, so that none can answer in the guard's place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safemerge.errors import JudgeError
from synth.engines.asking import chat_by_schema
from synth.engines.base import Engine
from synth.judges.judge import check_counts
from synth.probes.verdict import Verdict
from synth.text.degenerate import is_degenerate

_FEW = 20  # replies before which a share says little


@dataclass(frozen=True, slots=True)
class Guard:
    """A kind of model that judges, and the format in which it is asked."""

    kind: str  # its name in a config
    text: str  # of the message, before prompt and answer are filled in
    message: Callable[[str, str], str]  # what it is told about a prompt and an answer
    read: Callable[[str, str], Verdict]  # the verdict, from the judged answer and the guard's reply
    tokens: int  # longest reply
    model: str = ""  # hub id of the default model; "" for none
    template: str | None = None  # chat template that the model needs in place of its own
    # JSON schema to which an engine that can do so holds the reply
    schema: Mapping[str, Any] | None = None


class ModelJudge:
    """Judge with a guard and an engine of its model, opened with the guard's chat template.

    Of its verdicts so far, the degenerate ones apart, only the share `unreadable_frac`, in [0, 1],
    may be UNREADABLE; of fewer than 20 it is taken of 20.
    """

    def __init__(self, guard: Guard, engine: Engine, unreadable_frac: float = 1.0) -> None:
        self._guard, self._engine, self._most = guard, engine, unreadable_frac
        self._asked = self._unreadable = 0

    def judge(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        """See `Judge.judge`; what strings show to be degenerate is not asked about.

        Raises:
            BadInput: if there are not as many prompts as answers.
            JudgeError: where too many replies are unreadable.
        """
        check_counts(prompts, answers)
        guard, verdicts = self._guard, [Verdict.DEGENERATE] * len(answers)
        sound = [i for i, answer in enumerate(answers) if not is_degenerate(answer)]
        messages = [guard.message(prompts[i], answers[i]) for i in sound]
        replies = chat_by_schema(
            self._engine, messages, schema=guard.schema, max_tokens=guard.tokens
        )
        for i, reply in zip(sound, replies, strict=True):
            verdicts[i] = guard.read(answers[i], reply)
        self._asked += len(verdicts) - verdicts.count(Verdict.DEGENERATE)
        self._unreadable += verdicts.count(Verdict.UNREADABLE)
        if self._unreadable / max(self._asked, _FEW) > self._most:
            raise JudgeError(
                f"the judge {guard.kind!r} could not be read in {self._unreadable} of "
                f"{self._asked} verdicts, more than the share {self._most:g} that is allowed; "
                "check that its model is the one meant for it, choose another judge, or raise "
                "probes.unreadable_frac in the config"
            )
        return verdicts

    def fingerprint(self) -> str:
        """Kind, hash of the prompt format, and the weights of the guard."""
        form = (self._guard.template or "") + self._guard.text
        digest = hashlib.sha256(form.encode()).hexdigest()[:16]
        return f"{self._guard.kind} {digest} {self._engine.fingerprint()}"


def inert(text: str, marks: Sequence[str]) -> str:
    """`text` with every mark broken by a space after its first character."""
    for mark in marks:
        text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text
