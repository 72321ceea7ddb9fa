"""The second term: each example is sent to the expert that stands for its axis.

With z[l, t] the router's logits of layer l where answer token t is predicted, and e the example's
expert,

    L_gate = mean over examples of ( - mean over l, t of log softmax(z[l, t])[e] ).

The idea is of Tekin et al. 2024 (2411.17792). Their code takes the mean of the probabilities over
layers and over all positions, prompt and padding too, puts it through a second softmax, and reads
labels that are shifted against the examples; this is what it means to be (inferred): one softmax,
answers alone, each example its own label.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gating_loss(router_logits: Sequence[Tensor], answered: Tensor, experts: Tensor) -> Tensor:
    """Mean cross-entropy of the router with the expert of each example.

    Args:
        router_logits: of every layer, (B, K, E), of any floating dtype.
        answered: (B, K) bool, where an answer token is predicted; at least one in each row.
        experts: (B,) int64, the number of the example's expert; negative: it has none, and does
            not count.

    Returns:
        A scalar in nats, float32; 0 where no example has an expert.
    """
    labelled = experts >= 0
    logprob = torch.stack([layer.float() for layer in router_logits]).log_softmax(dim=-1)
    index = experts.clamp(min=0).view(1, -1, 1, 1).expand(*logprob.shape[:-1], 1)
    own = logprob.gather(-1, index).squeeze(-1).mean(dim=0)  # (B, K)
    each = (own * answered).sum(dim=1) / answered.sum(dim=1)
    return -(each * labelled).sum() / labelled.sum().clamp(min=1)
