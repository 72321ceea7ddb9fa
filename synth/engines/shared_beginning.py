"""Prompts whose common beginning, such as a system message, is read once before they are answered.

Its keys and values are the same in every row, so they are computed in one row and repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from synth.engines.batches import left_padded

_WORTH = 8  # tokens in common from which a pass of their own pays


@dataclass(frozen=True, slots=True, eq=False)
class BegunPrompts:
    """B prompts as `generate` of a causal model of transformers takes them."""

    input_ids: Tensor  # (B, L) int64
    attention_mask: Tensor  # (B, L) int64, 0 at padding, which follows what is in common
    cache: Any  # of what is in common; None where too little is


def begin(
    model: Any, prompts: Sequence[list[int]], pad: int, *, shares: bool = True
) -> BegunPrompts:
    """Read what prompts have in common.

    Args:
        prompts: token ids, at least one of each.
        pad: fills the shorter ones up.
        shares: False for a model that does not take positions and padding as they are given.
    """
    ends = [ids[:-1] for ids in prompts]  # a last token is left to predict from
    first, last = min(ends), max(ends)  # in order: what these two begin with, all do
    count = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first)
    )
    if not shares or len(prompts) < 2 or count < _WORTH:
        count = 0
    rest = [ids[count:] for ids in prompts]
    device = next(model.parameters()).device
    own = left_padded(rest, pad).to(device)
    mask = left_padded([[1] * len(ids) for ids in rest], 0).to(device)
    if not count:
        return BegunPrompts(own, mask, None)
    begun = torch.tensor([first[:count]], device=device)
    with torch.inference_mode():
        cache = model(input_ids=begun, use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(len(prompts))
    rows = begun.expand(len(prompts), -1)
    return BegunPrompts(
        torch.cat([rows, own], dim=1), torch.cat([torch.ones_like(rows), mask], dim=1), cache
    )
