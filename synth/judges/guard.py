"""What the judges that ask a model have in common: who is asked, about what, and how it is read.

A broken reply is never shown to the model: guards call babble harmless. A model whose own reply
cannot be parsed gives UNREADABLE, never safe. The judged texts are data: whatever marks the end of
a text in the guard's format is broken up inside them, so that no reply can end itself and answer
in the guard's place, or continue the dialogue to move the "last message" away from what it said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from synth.engines.base import Engine
from synth.judges.judge import check_counts
from synth.probes.verdict import Verdict
from synth.text.degenerate import is_degenerate


def ask_about(
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    chat: Callable[[list[str]], list[str]],
    message: Callable[[str, str], str],
    read: Callable[[str, str], Verdict],
) -> list[Verdict]:
    """Verdicts on (prompt, answer) pairs, in order.

    Args:
        prompts, answers: as many of each.
        chat: the guard, given the messages about all answers that are not degenerate.
        message: what it is told about one prompt and answer.
        read: the verdict from the judged answer and the guard's reply.

    Raises:
        BadInput: if there are not as many prompts as answers.
    """
    check_counts(prompts, answers)
    verdicts = [Verdict.DEGENERATE] * len(answers)
    sound = [i for i, answer in enumerate(answers) if not is_degenerate(answer)]
    replies = chat([message(prompts[i], answers[i]) for i in sound])
    for i, reply in zip(sound, replies, strict=True):
        verdicts[i] = read(answers[i], reply)
    return verdicts


def inert(text: str, marks: Sequence[str]) -> str:
    """`text` with every mark broken by a space after its first character."""
    for mark in marks:
        text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text


def identity(kind: str, form: str, engine: Engine) -> str:
    """Kind, hash of the prompt format, and the weights of the guard."""
    return f"{kind} {hashlib.sha256(form.encode()).hexdigest()[:16]} {engine.fingerprint()}"
