"""NuSLERP by rows or columns: each is interpolated by the angle between its own two vectors.

Source: mergekit's `nuslerp` with `nuslerp_flatten: false` (rows), and `nuslerp_row_wise: true`
(columns, in spite of the name: vectors along the first axis). The formula is that of `nuslerp.py`;
a vector is one row.
"""

from __future__ import annotations

from torch import Tensor

from safemerge.methods.common.method import Method, Site, State
from safemerge.methods.linear import positive_sum
from safemerge.methods.nuslerp import LEAST_NORM, SphereParams, interpolated


class RowParams(SphereParams):
    """`columns`: by columns; else by rows."""

    columns: bool = False


def prepare(base: Tensor, deltas: Tensor, params: RowParams, site: Site) -> State:
    """Keep what is interpolated, `vectors` (2, *shape), and `angles`, (rows, 1) or (1, columns)."""
    vectors = deltas if params.from_base else base.float() + deltas
    along = 0 if params.columns and base.dim() > 1 else -1
    first, second = vectors if base.dim() else vectors[:, None]
    lengths = first.norm(dim=along) * second.norm(dim=along)
    smallest = LEAST_NORM * LEAST_NORM
    cosines = (first * second).sum(dim=along) / lengths.clamp_min(smallest)
    return {"vectors": vectors, "angles": cosines.clamp(-1.0, 1.0).acos().unsqueeze(along)}


def combine(base: Tensor, state: State, weights: Tensor, params: RowParams) -> Tensor:
    share = weights / positive_sum(weights, "nuslerp_rows")  # 1 - t, t
    angles = state["angles"].to(share)
    c = interpolated(share, angles.reshape(-1)).reshape(2, *angles.shape)
    merged = (c[0] * state["vectors"][0] + c[1] * state["vectors"][1]).reshape(base.shape)
    return (base + merged if params.from_base else merged).to(merged.dtype)


METHOD = Method(
    name="nuslerp_rows",
    params=RowParams,
    prepare=prepare,
    combine=combine,
    prepare_key=lambda params: (params.from_base, params.columns),
    zero_is_base=False,
    positive_sum=True,
    least_sources=2,
    most_sources=2,
)
