"""Sampling noise of its own for every row, so that a sample does not depend on its neighbours.

Sampling from softmax(z / t) equals taking the argmax of z / t + g with independent Gumbel noise g
(Gumbel 1954). With one generator a row, batching and order change nothing but rounding.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from synth.engines.conversation import Prompt


class RowNoise:
    """A logits processor for `generate(do_sample=False)`; each row has its seed, in [0, 2^63)."""

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self._temperature = temperature
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) divided by the temperature, plus Gumbel noise, float32."""
        noise = torch.empty(scores.shape, dtype=torch.float32)
        for row, generator in zip(noise, self._generators, strict=True):
            row.exponential_(generator=generator)
        return scores.float() / self._temperature - noise.log_().to(scores.device)


def row_seeds(prompts: Sequence[Prompt], system: str | None, seed: int) -> list[int]:
    """A seed for each prompt, from seed, system message, prompt and its number of recurrence."""
    seen: Counter[Prompt] = Counter()
    seeds = []
    for prompt in prompts:
        key = json.dumps([seed, system, prompt, seen[prompt]])
        seeds.append(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1)
        seen[prompt] += 1
    return seeds
