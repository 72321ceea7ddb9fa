"""Train some parameters of a causal model with the Trainer of transformers.

It gives optimizer, schedule, checkpoints, mixed precision and recomputed activations. What it does
not do right is to read a mixture's experts from a checkpoint, where they have other names: that is
done here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from safemerge.errors import SafemergeError, require
from safemerge.fusion.examples import Example, collate

Precision = Literal["float32", "bfloat16"]
# Of outputs of the model, expert numbers (B,), and targets (B, K): terms that are added up.
LossTerms = Callable[[Any, Tensor, Tensor], Mapping[str, Tensor]]
# Told (steps done, steps of all, loss of the last one).
TuningProgress = Callable[[int, int, float], None]


class TrainingFailed(SafemergeError):
    """A training run that cannot go on; what it wrote before is kept."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast is trained; AdamW (Loshchilov and Hutter 2017, 1711.05101)."""

    steps: int
    batch: int = 16  # examples a step
    lr: float = 5e-4  # highest learning rate; warm-up of a tenth, then linearly to zero
    seed: int = 0  # of the order of the examples
    precision: Precision = "float32"  # of the arithmetic; weights are float32
    recompute: bool = False  # activations are computed again in the backward pass
    save_steps: int = 100  # between checkpoints, of which two are kept


def train(
    model: Any,
    learned: Sequence[nn.Parameter],
    examples: Sequence[Example],
    loss: LossTerms,
    schedule: Schedule,
    folder: Path,
    progress: TuningProgress = lambda done, steps, loss: None,
) -> list[dict[str, float]]:
    """Train in place, from the last checkpoint in a folder if there is one.

    Args:
        model: a causal model of transformers, float32, on the device where it is trained.
        learned: the parameters to train; all others stay as they are, to the bit.
        examples: at least one; in an order of the seed, again and again.
        loss: its terms.
        schedule: length and rates.
        folder: of the checkpoints; a run that was stopped goes on from there to the same end.
        progress: told of every step.

    Returns:
        The loss, its terms and the learning rate at every step.

    Raises:
        MissingDependency: without accelerate.
        TrainingFailed: a loss or a weight is not finite; the last checkpoint is of before.
    """
    require("accelerate", extra="fusion")
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_utils import get_last_checkpoint

    model.requires_grad_(False)
    for parameter in learned:
        parameter.requires_grad_(True)
    terms: dict[str, float] = {}

    def total(outputs: Any, labels: Tensor, **_: Any) -> Tensor:
        found = loss(outputs, labels[:, 0], labels[:, 1:])
        terms.update({name: term.item() for name, term in found.items()})
        return torch.stack(list(found.values())).sum()

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            value = sum(terms.values())
            sound = math.isfinite(value)
            if sound and control.should_save:
                sound = all(bool(parameter.isfinite().all()) for parameter in learned)
            if not sound:
                raise _failed(state.global_step, folder, schedule)
            progress(state.global_step, state.max_steps, value)

        def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            state.log_history[-1].update(terms)

    # Its name before transformers 5.23, and the one since.
    known = hasattr(TrainingArguments, "activation_checkpointing")
    recompute = "activation" if known else "gradient"
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder),
            max_steps=schedule.steps,
            per_device_train_batch_size=schedule.batch,
            learning_rate=schedule.lr,
            lr_scheduler_type="linear",
            warmup_steps=max(1, schedule.steps // 10),
            weight_decay=0.0,
            seed=schedule.seed,
            bf16=schedule.precision == "bfloat16",
            **{
                f"{recompute}_checkpointing": schedule.recompute,
                f"{recompute}_checkpointing_kwargs": {"use_reentrant": False},
            },
            save_steps=schedule.save_steps,
            save_total_limit=2,
            logging_steps=1,
            logging_nan_inf_filter=False,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=next(model.parameters()).device.type == "cpu",
        ),
        data_collator=partial(collate, pad=_pad(model)),
        train_dataset=list(examples),
        compute_loss_func=total,
        callbacks=[Watch()],
    )
    trainer.remove_callback(PrinterCallback)  # prints to stdout
    last = get_last_checkpoint(str(folder)) if folder.exists() else None
    if last is not None:
        _load(model, Path(last))
    trainer.train(resume_from_checkpoint=last)
    model.eval().requires_grad_(False)
    history: list[dict[str, float]] = [row for row in trainer.state.log_history if "loss" in row]
    return history


def _load(model: Any, checkpoint: Path) -> None:
    """Trainer reads names as they are stored, and says nothing of those that it does not find."""
    stored = type(model).from_pretrained(checkpoint, dtype=torch.float32)
    model.load_state_dict(stored.state_dict())


def _failed(step: int, folder: Path, schedule: Schedule) -> TrainingFailed:
    from transformers.trainer_utils import get_last_checkpoint

    last = get_last_checkpoint(str(folder))
    kept = f"the last good checkpoint is {last}" if last else "there is no checkpoint before it"
    return TrainingFailed(
        f"the training broke down at step {step} of {schedule.steps}: its loss or a weight is NaN "
        f"or infinite; {kept}. Take a lower learning rate than {schedule.lr:g}"
    )


def _pad(model: Any) -> int:
    """Any token: padding is neither attended to nor learned."""
    pad = model.config.pad_token_id
    return 0 if pad is None else int(pad)
