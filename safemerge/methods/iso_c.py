"""Iso-C: the sum of the deltas with all its singular values made equal.

Source: Marczak et al. 2025 (2502.04959). With r = min(out, in):

    D = sum_i w_i D_i = U S V'        theta = base + scale * mean(S) U V'

mean(S) is <U V', D> / r, and U V' takes one eigendecomposition of the short side: no SVD.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safemerge.methods import tsvm
from safemerge.methods.common.method import Method, State
from safemerge.methods.common.params import Scaled
from safemerge.methods.common.polar import polar
from safemerge.methods.common.ranks import bytes_held
from safemerge.methods.common.span import keep_in_span, out_of_span


def combine(base: Tensor, state: State, weights: Tensor, params: Scaled) -> Tensor:
    D = torch.tensordot(weights, state["deltas"], dims=1)
    directions = polar(D)  # U V'
    # <U V', D> is the sum of the singular values. Its derivative by D is U V' itself, so the
    # directions count as fixed here.
    mean = (directions.detach() * D).sum() / max(min(base.shape), 1)
    merged: Tensor = base.float() + out_of_span(state, params.scale * mean * directions)
    return merged


METHOD = Method(
    name="iso_c",
    params=Scaled,
    prepare=keep_in_span,
    combine=combine,
    low_rank=True,
    elsewhere=tsvm.METHOD.elsewhere,
    # The sum, its directions and their copies in float64; Gram matrix and eigenvectors in float64.
    footprint=bytes_held(1, whole=8, squares=6),
    one_source_is_itself=False,
)
