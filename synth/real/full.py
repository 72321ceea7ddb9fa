"""An expert as a whole checkpoint: every parameter of the base is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from synth.engines.loading import load_model, load_tokenizer, quiet
from synth.engines.template import open_template
from synth.real.own_replies import Lesson
from synth.real.tuning import StepProgress, TuningPlan, tune


def train_full(
    base: Path,
    lessons: Sequence[Lesson],
    plan: TuningPlan,
    folder: Path,
    progress: StepProgress = lambda done, steps, loss: None,
) -> None:
    """Train all parameters of the base and save a checkpoint in bf16, as the base's is.

    The arguments are those of `synth.real.lora.train_lora`.
    """
    tokenizer = load_tokenizer(base)
    model = load_model(base, "cpu", torch.float32)
    model.requires_grad_(True)  # loaded models are for inference
    tune(model, list(model.parameters()), open_template(tokenizer), lessons, plan, progress)
    with quiet():
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
