"""Model Stock by rows: each row is drawn to the base by the angles between its own deltas.

Source: as `model_stock.py`, whose formula holds for every row; mergekit's `filter_wise`. A vector
is one row. As there, the base stays where 1 + (T - 1) cos is 0.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from safemerge.methods.common.method import Method, Site, State
from safemerge.methods.common.params import Scaled
from safemerge.methods.model_stock import LEAST_NORMS, SINGULAR


def prepare(base: Tensor, deltas: Tensor, params: Scaled, site: Site) -> State:
    """Keep the `deltas` (T, *shape) beside the ratios of their rows, `t` (rows, 1)."""
    count = len(deltas)
    rows = deltas if base.dim() else deltas[:, None]
    lengths = rows.norm(dim=-1)
    cosines = [
        ((rows[i] * rows[j]).sum(dim=-1) / (lengths[i] * lengths[j]).clamp_min(LEAST_NORMS)).clamp(
            -1.0, 1.0
        )
        for i, j in combinations(range(count), 2)
    ]
    cos = torch.stack(cosines).mean(dim=0)
    divisor = 1.0 + (count - 1) * cos
    singular = divisor.abs() < SINGULAR
    t = torch.where(singular, 0.0, count * cos / torch.where(singular, 1.0, divisor))
    return {"deltas": deltas, "t": t.unsqueeze(-1)}


def combine(base: Tensor, state: State, weights: Tensor, params: Scaled) -> Tensor:
    total = torch.tensordot(params.scale / len(weights) * weights, state["deltas"], dims=1)
    merged: Tensor = base.float() + (state["t"] * total).reshape(base.shape)
    return merged


METHOD = Method(
    name="model_stock_rows",
    params=Scaled,
    prepare=prepare,
    combine=combine,
    least_sources=2,
)
