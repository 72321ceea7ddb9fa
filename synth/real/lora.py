"""One expert: a LoRA adapter on all projections, trained through PEFT (Hu et al. 2021, 2106.09685).

In float32: bf16 arithmetic is many times slower on processors that lack it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from safemerge.errors import require
from synth.engines.loading import load_model, load_tokenizer, quiet
from synth.engines.template import open_template
from synth.real.own_replies import Lesson
from synth.real.packing import pack, packed_loss

RANK = 16
ALPHA = 32
# Told (steps done, steps of all, mean loss of the last tenth of the steps, in nats a token).
StepProgress = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class LoraPlan:
    """How long and how fast an expert is trained."""

    steps: int
    batch: int = 8  # lessons a step
    lr: float = 5e-4  # highest learning rate of AdamW; warm-up of a tenth, then linearly to zero


def train_lora(
    base: Path,
    lessons: Sequence[Lesson],
    plan: LoraPlan,
    folder: Path,
    progress: StepProgress = lambda done, steps, loss: None,
) -> None:
    """Train an adapter of the base and save it in PEFT's format.

    Args:
        base: checkpoint folder.
        lessons: at least steps x batch; taken in order.
        plan: steps and rate.
        folder: where adapter_config.json and adapter_model.safetensors land.
        progress: told of every step.

    Raises:
        MissingDependency: without PEFT.
    """
    peft = require("peft", extra="real")
    template = open_template(load_tokenizer(base))
    model = load_model(base, "cpu", torch.float32)
    torch.manual_seed(0)
    with quiet():
        wrapped = peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
        )
    learned = [weight for weight in wrapped.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=plan.lr, weight_decay=0.0)
    warm = max(1, plan.steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm, (plan.steps - step) / max(1, plan.steps - warm)),
    )
    losses: list[float] = []
    for step in range(plan.steps):
        row = pack(template, lessons[step * plan.batch : (step + 1) * plan.batch])
        loss = packed_loss(model, row)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        recent = losses[-max(1, plan.steps // 10) :]
        progress(step + 1, plan.steps, sum(recent) / len(recent))
    with quiet():
        wrapped.save_pretrained(folder)
