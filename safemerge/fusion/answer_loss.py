"""The first term of the loss: how unlikely the wanted answers are."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from safemerge.fusion.examples import IGNORED


def answer_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the answers' tokens, L_lm = - mean over t of log p(a_t | x, a_<t).

    Args:
        logits: (B, K, V), of any floating dtype, before each token of `targets`.
        targets: (B, K) int64, `IGNORED` where there is no answer; at least one is.

    Returns:
        A scalar in nats a token, float32.
    """
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED
    )
