"""RESTA: after a merge, add what alignment changed, thinned out by DARE.

Source: Bhardwaj et al. 2024 (2402.11746), from documentation of SafeTune. With K drawn entry by
entry, 1 with probability 1 - `drop`, there 0.1, and a the weight of the pair (add_back.py):

    theta = merge of the other sources + a / (1 - drop) K o (aligned - unaligned)
"""

from __future__ import annotations

from pydantic import Field

from safemerge.low_rank import Delta, dense
from safemerge.methods.common.add_back import PairParams, pair_stage
from safemerge.methods.common.draws import keep_evenly, masked, probability
from safemerge.methods.common.method import Site, State


class RestaParams(PairParams):
    """Beside `PairParams`: `drop`, the share of entries that is dropped, and the seed of draws."""

    drop: float = Field(default=0.9, ge=0.0, le=0.99)
    seed: int = Field(default=0, ge=0, lt=2**63)


def thinned(delta: Delta, params: RestaParams, site: Site) -> State:
    changed, density = dense(delta), 1.0 - params.drop
    mask = keep_evenly(site.seed(params.seed, params.aligned), density, changed)
    return {"added": masked(changed, mask) / probability(density)}


STAGE = pair_stage(
    "resta",
    RestaParams,
    matrix=thinned,
    other=thinned,
    key=lambda p: (p.drop, p.seed),
    seeded=True,
)
