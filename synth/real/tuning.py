"""The training loop of an expert: AdamW (Loshchilov and Hutter 2017, 1711.05101) over packed rows.

In float32: bf16 arithmetic is many times slower on processors that lack it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from synth.engines.batches import answer_logprobs
from synth.engines.packing import pack
from synth.engines.template import ChatTemplate
from synth.real.own_replies import Lesson

# Told (steps done, steps of all, mean loss of the last tenth of the steps, in nats a token).
StepProgress = Callable[[int, int, float], None]
_ANY = 2**31  # tokens of a row: as many as there are


@dataclass(frozen=True, slots=True)
class TuningPlan:
    """How long and how fast an expert is trained."""

    steps: int
    batch: int = 8  # lessons a step
    lr: float = 5e-4  # highest learning rate; warm-up of a tenth, then linearly to zero


def tune(
    model: Any,
    learned: Sequence[nn.Parameter],
    template: ChatTemplate,
    lessons: Sequence[Lesson],
    plan: TuningPlan,
    progress: StepProgress,
) -> None:
    """Train some parameters of a causal model of transformers, in place.

    Args:
        model: in which they take part.
        learned: the parameters to train.
        template: how a lesson is put.
        lessons: at least steps x batch; taken in order.
        plan: steps and rate.
        progress: told of every step.
    """
    optimizer = torch.optim.AdamW(learned, lr=plan.lr, weight_decay=0.0)
    warm = max(1, plan.steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm, (plan.steps - step) / max(1, plan.steps - warm)),
    )
    losses: list[float] = []
    for step in range(plan.steps):
        loss = lesson_loss(model, template, lessons[step * plan.batch : (step + 1) * plan.batch])
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        recent = losses[-max(1, plan.steps // 10) :]
        progress(step + 1, plan.steps, sum(recent) / len(recent))


def lesson_loss(model: Any, template: ChatTemplate, lessons: Sequence[Lesson]) -> Tensor:
    """Mean cross-entropy of the replies' tokens, of some lessons in one packed row."""
    pairs = template.tokenize([(lesson.prompt, lesson.reply) for lesson in lessons])
    learned = [
        (prompt, answer if lesson.ended else answer[:-1])
        for lesson, (prompt, answer) in zip(lessons, pairs, strict=True)
    ]
    (row,) = pack(learned, range(len(learned)), row_tokens=_ANY, answer_tokens=_ANY)
    logprob, tokens, _ = answer_logprobs(row.answer_logits(model), row)
    return -logprob.sum() / tokens.sum()
