"""Alignment tuning: one expert is made of a dense model by training its feed-forward blocks alone.

The first step of Tekin et al. 2024 (2411.17792), for an axis of which there are answers and no
tuned source. Attention, norms and embeddings stay those that all experts share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from safemerge.errors import CheckpointError
from safemerge.fusion.answer_loss import answer_loss
from safemerge.fusion.examples import Example
from safemerge.fusion.layouts import LAYOUTS, feed_forward_part
from safemerge.fusion.training import Schedule, TuningProgress, train


def tune_feed_forward(
    model: Any,
    examples: Sequence[Example],
    schedule: Schedule,
    folder: Path,
    progress: TuningProgress = lambda done, steps, loss: None,
) -> list[dict[str, float]]:
    """Train the feed-forward blocks of a dense model, in place.

    Args:
        model: a causal model of transformers, float32.
        examples, schedule, folder, progress: see `train`.

    Returns:
        Of every step the loss and the learning rate.

    Raises:
        CheckpointError: an architecture of which there is no mixture.
        MissingDependency, TrainingFailed: see `train`.
    """
    blocks = [p for name, p in model.named_parameters() if feed_forward_part(name) is not None]
    if model.config.model_type not in LAYOUTS or not blocks:
        raise CheckpointError(
            f"there is no mixture architecture for {model.config.model_type!r}; those that have "
            f"one: {', '.join(LAYOUTS)}"
        )

    def terms(outputs: Any, labels: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        return {"lm": answer_loss(outputs.logits, targets)}

    return train(model, blocks, examples, terms, schedule, folder, progress)
