"""Deltas of low rank, such as LoRAs, as small matrices in the span that they have in common.

The core space of Panariello et al. 2025 (2509.17786): a sum of T deltas of rank k lies in the span
of T k left and T k right directions, whatever the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safemerge.factors import low_rank
from safemerge.low_rank import Deltas, dense
from safemerge.methods.common.method import Site, State
from safemerge.methods.common.params import Params


def keep_in_span(base: Tensor, deltas: Deltas, params: Params, site: Site) -> State:
    """`deltas` (n_sources, out, in) as they are; or (n_sources, K, K) where their span is small.

    Then also `left` (out, K) and `right` (in, K), orthonormal: delta_i = left @ deltas_i @ right'.
    """
    parts = []
    room = min(base.shape) // 2
    for delta in deltas:
        factors = low_rank(delta)
        if factors is None or factors.s.numel() > room:
            whole = deltas if isinstance(deltas, Tensor) else torch.stack([*map(dense, deltas)])
            return {"deltas": whole}
        room -= factors.s.numel()
        parts.append(factors)
    left = torch.linalg.qr(torch.cat([factors.u for factors in parts], dim=1)).Q
    right = torch.linalg.qr(torch.cat([factors.v for factors in parts], dim=1)).Q
    if isinstance(deltas, Tensor):
        inside = left.T @ deltas @ right
    else:
        inside = torch.stack([left.T @ delta @ right for delta in deltas])
    return {"deltas": inside, "left": left, "right": right}


def out_of_span(state: State, merged: Tensor) -> Tensor:
    """A matrix in the terms of `keep_in_span`'s deltas as (out, in)."""
    return state["left"] @ merged @ state["right"].T if "left" in state else merged
