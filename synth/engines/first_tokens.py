"""The likeliest first tokens of replies, by one forward pass of a model in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from synth.engines.base import FIRST_TOKENS, FirstToken
from synth.engines.batches import left_padded


def first_tokens(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], pad: int
) -> list[list[FirstToken]]:
    """Of each prompt, as token ids ready for generation, the likeliest `FIRST_TOKENS`, in order."""
    device = next(model.parameters()).device
    input_ids = left_padded(prompts, pad).to(device)  # (B, L)
    mask = left_padded([[1] * len(ids) for ids in prompts], 0).to(device)
    with torch.inference_mode():
        logits = model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(dim=1) - 1).clamp_(min=0),
            logits_to_keep=1,
            use_cache=False,
        ).logits[:, -1]  # (B, V)
    top = logits.float().log_softmax(dim=-1).topk(min(FIRST_TOKENS, logits.shape[-1]), dim=-1)
    rows = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [
        [FirstToken(tokenizer.decode([token]), value) for token, value in zip(*row, strict=True)]
        for row in rows
    ]
