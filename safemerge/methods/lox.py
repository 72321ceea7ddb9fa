"""LoX: after a merge, add the leading singular part of what alignment changed.

Source: Perin et al. 2025 (2506.15606), from documentation of SafeTune. With E the `k` leading
triplets of aligned - unaligned, there 8, and a the weight of the pair (add_back.py), there 0.3:

    theta = merge of the other sources + a E

Tensors that are no matrices get all of it.
"""

from __future__ import annotations

from pydantic import Field

from safemerge.low_rank import Delta
from safemerge.methods.common.add_back import PairParams, pair_stage, whole
from safemerge.methods.common.method import Site, State


class LoxParams(PairParams):
    """Beside `PairParams`, `k`: how many triplets are added, at least 1."""

    k: int = Field(default=8, ge=1)


def leading(delta: Delta, params: LoxParams, site: Site) -> State:
    factors = site.svd(delta, params.k)
    return {"added_left": factors.u * factors.s, "added_right": factors.v}


STAGE = pair_stage("lox", LoxParams, matrix=leading, other=whole, key=lambda p: (p.k,))
