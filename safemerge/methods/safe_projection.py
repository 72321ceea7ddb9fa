"""Project deltas onto the alignment direction where they stray from it, then add them.

Source: the criterion of Safe LoRA (Hsu et al. 2024, 2405.16833) and SafeMERGE (Djuhera et al. 2025,
2503.17239), there for a LoRA's product and here for whole deltas. With V the delta of the aligned
source:

    P = V V' / |V|_F                              (out, out)
    D_i <- P D_i where cos(P D_i, D_i) <= tau     for every other source
    theta = base + scale * sum_i w_i D_i

P is not a projector, as published: its norm grows with V. Where V is 0 deltas stay as they are.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cosine_similarity

from safemerge.methods import task_arithmetic
from safemerge.methods.common.method import Site, State
from safemerge.methods.common.params import Aligned
from safemerge.methods.common.ranks import bytes_held


class SafeProjectionParams(Aligned):
    """Beside `Aligned`, `tau`: a delta is projected where its cosine is at most this.

    0.5 is Safe LoRA's, 0.35 SafeMERGE's; -1 leaves all but opposite deltas, 1 projects all.
    """

    tau: float = Field(default=0.5, ge=-1.0, le=1.0)


def prepare(base: Tensor, deltas: Tensor, params: SafeProjectionParams, site: Site) -> State:
    """`deltas` (n_sources, out, in), projected where they stray."""
    aligned = params.index(site.sources)
    V = deltas[aligned]
    size = V.norm()
    if size.item() == 0.0:
        return {"deltas": deltas}
    kept = deltas.clone()
    for i, delta in enumerate(deltas):
        if i == aligned or not delta.any():
            continue
        projected = torch.linalg.multi_dot([V / size, V.T, delta])  # P D_i
        cosine = cosine_similarity(projected.flatten(), delta.flatten(), dim=0).item()
        if min(cosine, 1.0) <= params.tau:
            kept[i] = projected
    return {"deltas": kept}


METHOD = replace(
    task_arithmetic.METHOD,
    name="safe_projection",
    params=SafeProjectionParams,
    prepare=prepare,
    piecewise=False,
    entrywise=(),  # a projected delta is no piece of the delta
    linear=False,
    elsewhere={"vector": task_arithmetic.METHOD, "embedding": task_arithmetic.METHOD},
    # Delta and projected delta of each source; P, its factors, products and the result.
    footprint=bytes_held(2, whole=9),
    prepare_key=lambda params: (params.aligned, params.tau),
)
