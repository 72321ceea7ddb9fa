"""LED: of every delta, only the entries that matter to base and source and to no other source.

Source: Ma et al. 2025 (2502.16770). With importance I = E_x |theta * grad L(x)| of every entry,
taken for the base and for source i on examples of source i's own domain, L the negative
log-likelihood of the answer:

    N_i    = entries in the top rate_i of both, tensor by tensor
    mask_i = N_i less all other N_j
    theta  = base + scale * sum_i w_i mask_i D_i

An entry is in N_i where the worse of its two positions is under rate_i, so an importance file holds
that position alone (`synth.importance`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from safemerge.methods import task_arithmetic
from safemerge.methods.common.importance_order import POSITIONS
from safemerge.methods.common.method import Method, Selection, Site, Span, State
from safemerge.methods.common.params import Params, Scaled
from safemerge.methods.common.ranks import bytes_held
from safemerge.methods.common.sparse import add_kept


def prepare(base: Tensor, deltas: Tensor, params: Params, site: Site) -> State:
    """`deltas` and `position`, of `Site.importance`, both (n_sources, *base.shape)."""
    assert site.importance is not None  # Method.check has refused sources without
    return {"deltas": deltas, "position": site.importance}


def select(state: State, selection: Selection, params: Params) -> State:
    """`deltas`, and `keep`, the mask by `rate`, both (n_sources, *base.shape); `last` (n_sources,),
    the last position under `rate`.
    """
    # A position below rate * POSITIONS; as whole numbers, since mixed types would be copied first.
    last = [math.ceil(rate * POSITIONS) - 1 for rate in selection.per_source["rate"]]
    kept = mask(state["position"], last)
    return {"deltas": state["deltas"], "keep": kept, "last": torch.tensor(last)}


def mask(position: Tensor, last: list[int]) -> Tensor:
    """mask_i (n_sources, ...), where `position` is up to `last` for source i alone."""
    # located: N_i; claims: how many N_i an entry is in.
    located = torch.stack([part <= end for part, end in zip(position, last, strict=True)])
    claims = located.sum(dim=0, dtype=torch.uint8)
    return located.logical_and_(claims == 1)


def entries(base: Tensor, deltas: Tensor, state: State, site: Site) -> State:
    assert site.importance is not None
    return {"deltas": deltas, "keep": mask(site.importance, state["last"].tolist())}


METHOD = Method(
    name="led",
    params=Scaled,
    prepare=prepare,
    select=select,
    piecewise=True,
    weigh=task_arithmetic.weigh,
    combine=add_kept,
    entrywise=("deltas", "keep"),
    entries=entries,
    # The published example rates are 0.1 (safety), 0.4 (mathematics) and 0.5 (code).
    per_source={"rate": Span(default=0.4, low=0.0, high=1.0)},
    footprint=bytes_held(3, whole=1),
    needs_importance=True,
    one_source_is_itself=False,
)
