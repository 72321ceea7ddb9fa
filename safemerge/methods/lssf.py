"""LSSF: after a merge, add what alignment changed, inside a subspace of a rank of its own.

Source: Zhou et al. 2025, LSSF (ACL 2025), from documentation of SafeTune. With U_r the r leading
left singular vectors of E = aligned - unaligned, p_j = s_j / sum s, and a the weight of the pair
(add_back.py):

    r     = least number of triplets that hold `retention` of the entropy - sum_j p_j log p_j
    theta = merge of the other sources + a U_r U_r' E

Tensors that are no matrices get all of E.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safemerge.low_rank import Delta
from safemerge.methods.common.add_back import PairParams, pair_stage, whole
from safemerge.methods.common.method import Site, Span, State


def entropy_rank(s: Tensor, retention: float) -> int:
    """r of singular values (c,), descending, all above 0; `retention` in [0, 1]; 1 is all."""
    p = s.double() / s.double().sum()
    held = torch.cumsum(-torch.xlogy(p, p), dim=0)
    if not len(s) or held[-1] <= 0:
        return len(s)
    # 1e-9: the last sum over itself is 1, and a retention of 1 keeps all.
    return min(len(s), int((held < (retention - 1e-9) * held[-1]).sum()) + 1)


def triplets(delta: Delta, params: PairParams, site: Site) -> State:
    factors = site.svd(delta)
    return {"added_left": factors.u, "added_s": factors.s, "added_right": factors.v}


def cut(state: State, retention: float) -> State:
    r = entropy_rank(state["added_s"], retention)
    left = state["added_left"][:, :r] * state["added_s"][:r]
    return {**state, "added_left": left, "added_right": state["added_right"][:, :r]}


STAGE = pair_stage(
    "lssf",
    PairParams,
    matrix=triplets,
    other=whole,
    key=lambda p: (),
    cut=cut,
    number=("retention", Span(default=0.85, low=0.0, high=1.0)),
)
