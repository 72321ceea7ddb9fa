"""How strong a source is: `soften` keeps what its behaviour needs, `set_strength` any share.

How strongly training binds a behaviour differs from seed to seed; this makes worlds equally hard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from synth.probes.probe import Probe
from synth.zoo.train import exact_match

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

RELIABLE = 0.99  # share of right answers that counts as the behaviour
RESERVE = 1.1  # times the least share of the delta that is reliable
HALVINGS = 6


def soften(
    model: LlamaForCausalLM,
    base: Mapping[str, Tensor],
    tokenizer: PreTrainedTokenizerFast,
    probes: Sequence[Probe],
) -> float:
    """Shrink a source towards its base, in place, as far as its behaviour stays reliable.

    `probes` are of the one axis that the source is for, and not the held-out ones. The share of the
    delta that is left, in (0, 1], is given back; 1 where the whole is not reliable either.
    """
    trained = {name: weight.clone() for name, weight in model.named_parameters()}

    def reliable(share: float) -> bool:
        _between(model, base, trained, share)
        return exact_match(model, tokenizer, probes) >= RELIABLE

    low, high = 0.0, 1.0
    if reliable(1.0):
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if reliable(middle) else (middle, high)
        high = min(1.0, RESERVE * high)
    _between(model, base, trained, high)
    return high


def set_strength(model: LlamaForCausalLM, base: Mapping[str, Tensor], share: float) -> None:
    """Scale a source's delta in place; above 1 it goes further than it was trained."""
    trained = {name: weight.clone() for name, weight in model.named_parameters()}
    _between(model, base, trained, share)


@torch.no_grad()
def _between(
    model: LlamaForCausalLM, base: Mapping[str, Tensor], trained: Mapping[str, Tensor], share: float
) -> None:
    """Put a model on the line from its base (share 0) through what it was trained to (1)."""
    for name, weight in model.named_parameters():
        weight.copy_(torch.lerp(base[name], trained[name], share))
