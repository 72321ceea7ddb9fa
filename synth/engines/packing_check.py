"""Which conversations a model reads rightly in packed rows: tried once, not known by name.

A packed row needs a model that takes its attention mask and positions as they are given. One with
ALiBi, recurrent layers, or a kernel without masks does not, and one with a window over places may
not see far enough.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from synth.engines.batches import MAX_LOGITS, Batch, answer_logprobs, padded
from synth.engines.packing import pack
from synth.engines.template import ChatTemplate

# Ordinary sentences of several lengths, and two answers to one prompt.
_KNOWN = (
    ("Hello!", "Hello. What can I do for you today?"),
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of France?", "I do not know."),
    ("What colour is the sky on a clear day, and why?", "Blue."),
    ("Name three fruits.", "Apples, pears and plums."),
    ("How many days does a week have, and which of them are free for most people?", "Seven."),
)
# sliding_window, attention_window_size, attention_chunk_size, ...; not max_window_layers
_WINDOW = re.compile(r".*(window|window_size|chunk_size)$")
# Shorter rows share too little, and models of so short a context are bound by forward passes.
_WORTH = 256
# Most that log-likelihoods may differ by, in nats a token on average: what rounding does.
_ROUNDING = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 6e-2}


def packable_tokens(model: Any, template: ChatTemplate, most: int) -> int:
    """The longest packed row, at most `most` tokens, that a causal model reads as separate rows.

    0 where there is none, or none worth having. The model's weights are used as they are, in its
    dtype.
    """
    longest = min(most, *_limits(model.config))
    if longest < _WORTH:
        return 0
    encoded = template.tokenize(_KNOWN)
    device = next(model.parameters()).device
    rows = range(len(encoded))
    (packed,) = pack(encoded, rows, row_tokens=MAX_LOGITS, answer_tokens=MAX_LOGITS)
    try:
        found = _logprobs(model, packed.to(device))
    # A model that cannot take such a mask says so by whatever it stumbles over.
    except Exception:
        return 0
    alone = [batch.to(device) for batch in padded(template, encoded, rows, batch_tokens=1)]
    wanted = torch.cat([_logprobs(model, batch) for batch in alone])
    order = torch.cat([batch.rows for batch in alone]).argsort()
    tokens = torch.tensor([len(encoded[row][1]) for row in packed.rows.tolist()])
    apart = ((found - wanted[order][packed.rows]).abs() / tokens).mean().item()
    # Not finite, it is no sign of anything; rows apart are always right.
    return longest if apart <= _ROUNDING.get(model.dtype, 0.0) else 0


def _logprobs(model: Any, batch: Batch) -> Tensor:
    """(N,) on the CPU, in the batch's order."""
    with torch.inference_mode():
        return answer_logprobs(batch.answer_logits(model), batch)[0].cpu()


def _limits(config: Any) -> list[int]:
    """Lengths beyond which some layer may not see, and of the context, and no limit at all."""
    settings = config.get_text_config()
    # By its common name, which some families hold under another.
    context = getattr(settings, "max_position_embeddings", None)
    named = [value for key, value in settings.to_dict().items() if _WINDOW.match(key)]
    found = [value for value in (context, *named) if type(value) is int and value > 0]
    return [*found, MAX_LOGITS]
