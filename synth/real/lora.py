"""An expert as a LoRA adapter on all projections, through PEFT (Hu et al. 2021, 2106.09685)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from safemerge.errors import require
from synth.engines.loading import load_model, load_tokenizer, quiet
from synth.engines.template import open_template
from synth.real.own_replies import Lesson
from synth.real.tuning import StepProgress, TuningPlan, tune

RANK = 16
ALPHA = 32


def train_lora(
    base: Path,
    lessons: Sequence[Lesson],
    plan: TuningPlan,
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
    tune(model, learned, template, lessons, plan, progress)
    with quiet():
        wrapped.save_pretrained(folder)
