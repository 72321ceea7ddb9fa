"""Peak memory of building and tuning a mixture, in bytes, before either.

weights      4 numbers' bytes of every parameter: training is in float32
gradients, moments, starts   4, 8, and with a drift regulariser 4 bytes of every trained one
activations  of a token in a layer: 10 hidden, and of each of its k experts 2 hidden and 4 inner
             numbers; with recomputation those of one layer, and of the others their input
logits       3 times answers x vocabulary: logits, their softmax, its gradient
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from safemerge.fusion.examples import Example
from safemerge.fusion.layouts import feed_forward_part
from safemerge.inputs import Inputs
from search.config import FusionConfig

_FLOAT32 = 4


@dataclass(frozen=True, slots=True)
class FusionMemory:
    """Bytes, by term."""

    process: int  # before
    weights: int
    training: int  # gradients, moments, starts
    activations: int  # of one example
    batch: int

    @property
    def total(self) -> int:
        return self.process + self.weights + self.training + self.batch * self.activations

    def batch_within(self, free: int) -> int:
        """The largest batch for which `free` bytes are enough beside the process; perhaps 0."""
        return max(0, (free - self.weights - self.training) // max(self.activations, 1))


def fusion_memory(
    inputs: Inputs, examples: Sequence[Example], section: FusionConfig, process: int
) -> FusionMemory:
    """Of tuning on examples, of which the longest may meet in one batch."""
    base, count = inputs.base, len(inputs.sources)
    sizes = {name: math.prod(base.tensors[name].shape) for name in inputs.merged_names}
    expert = sum(size for name, size in sizes.items() if feed_forward_part(name) is not None)
    shared = sum(sizes.values()) - expert
    config = base.config
    layers, hidden = _number(config, "num_hidden_layers"), _number(config, "hidden_size")
    inner, vocabulary = _number(config, "intermediate_size"), _number(config, "vocab_size")
    trained = count * (expert + layers * hidden)
    copies = 4 if any(section.gammas([""] * count)) or isinstance(section.gamma, dict) else 3
    tokens = max(len(e.prompt) + len(e.answer) for e in examples)
    answer = max(len(e.answer) for e in examples)
    layer = 10 * hidden + section.top_k * (2 * hidden + 4 * inner)
    kept = layers * hidden + layer if section.recompute else layers * layer
    return FusionMemory(
        process=process,
        weights=_FLOAT32 * (shared + trained),
        training=_FLOAT32 * (copies if section.regulariser == "drift" else 3) * trained,
        activations=_FLOAT32 * (tokens * kept + 3 * answer * vocabulary),
        batch=section.batch,
    )


def _number(config: Any, name: str) -> int:
    return int(config[name])
