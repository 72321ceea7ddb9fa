"""ResMerge: merge what the leading singular direction leaves, by consensus of directions.

Source: Sun et al. 2026 (2606.02252), for experts tuned by reinforcement learning, in the form of
their code. Each delta is split into head H_i (its leading triplet) and residual R_i, with unit
residuals q_i = R_i / |R_i| and q = sum q_i / |sum q_i|:

    c = mean cos(q_i, q)      s = mean cos(q_i, q_j) over pairs
    beta = 1 - 0.3 ((s + 1) / 2 + (c + 1) / 2) / 2      (1 outside attention and MLP)
    A = c^beta mean|R_i| q,   or mean R_i where c <= 1 / sqrt(T), that is s <= 0
    C = 0.2 S_H |A| mean H / |mean H|,   S_H = mean max(cos(H_i, H_j), 0) over pairs
    theta = base + scale (A + C)

The paper has no weights; all 1 is its method. With weights D_i becomes w_i D_i, and each mean of
unit vectors or cosines counts a source by |w_i|. All of it is known from two Gram matrices, so a
trial is one linear combination.
"""

from __future__ import annotations

import torch
from torch import Tensor

from safemerge.methods import task_arithmetic
from safemerge.methods.common.method import Method, Site, State
from safemerge.methods.common.params import Params, Scaled
from safemerge.methods.common.ranks import bytes_held
from safemerge.names import place_of

_BETA_DROP = 0.3
_HEAD_SHARE = 0.2
_TINY = 1e-30  # under a root or a fraction, instead of zero


def prepare(base: Tensor, deltas: Tensor, params: Params, site: Site) -> State:
    """Split off the heads and take the Gram matrices.

    Returns:
        `residual` (T, out, in) = R_i, `size` (T,) = |R_i|, `cosine` (T, T) of residuals; `left`
        (out, T), `right` (in, T), `head` (T,): the heads; `head_cosine` (T, T); `scored` (): 1 in
        attention and MLP, else 0.
    """
    n_sources, out, into = deltas.shape
    left, right = deltas.new_zeros(out, n_sources), deltas.new_zeros(into, n_sources)
    head = deltas.new_zeros(n_sources)
    for i, delta in enumerate(deltas):
        leading = site.svd(delta, 1)
        if leading.s.numel():
            left[:, i], right[:, i], head[i] = leading.u[:, 0], leading.v[:, 0], leading.s[0]
    residual = deltas.clone()
    for i, part in enumerate(residual):
        part.addr_(left[:, i], right[:, i], alpha=-head[i].item())
    flat = residual.flatten(1)
    gram = flat @ flat.T
    size = gram.diagonal().sqrt()
    scored = place_of(site.tensor).kind in ("attention", "mlp")
    return {
        "residual": residual,
        "size": size,
        "cosine": gram / torch.outer(size, size).clamp_min(_TINY),
        "left": left,
        "right": right,
        "head": head,
        "head_cosine": (left.T @ left) * (right.T @ right),
        "scored": torch.tensor(float(scored), device=deltas.device),
    }


def weigh(state: State, weights: Tensor, params: Scaled) -> Tensor:
    """Factors with which residuals (row 0) and heads (row 1) enter, (2, n_sources)."""
    T, size, cosine, head = weights.numel(), state["size"], state["cosine"], state["head"]
    W = weights.abs().sum().clamp_min(_TINY)
    pairs = torch.outer(weights, weights).triu(1)  # w_i w_j, i < j
    over_pairs = 2 * T / ((T - 1) * W.square().clamp_min(_TINY))
    s = over_pairs * (pairs * cosine).sum()
    if s.item() > 0.0:
        length = (weights @ cosine @ weights).clamp_min(_TINY).sqrt()  # |sum w_i q_i|
        c = (length / W).clamp(_TINY, 1.0)
        beta = 1.0 - _BETA_DROP * state["scored"] * ((s + 1) / 2 + (c + 1) / 2) / 2
        size_a = c**beta * (weights.abs() @ size) / T  # |A|
        by_residual = size_a / length * weights / size.clamp_min(_TINY)
    else:
        by_residual = weights / T
        scaled = weights * size
        size_a = (scaled @ cosine @ scaled).clamp_min(_TINY).sqrt() / T
    s_h = over_pairs * (pairs * state["head_cosine"]).clamp_min(0.0).sum()
    heads = weights * head
    length = (heads @ state["head_cosine"] @ heads).clamp_min(_TINY).sqrt()  # T |mean w_i H_i|
    by_head = _HEAD_SHARE * s_h * size_a / length * heads
    return params.scale * torch.stack([by_residual, by_head])


def combine(base: Tensor, state: State, coefficients: Tensor, params: Scaled) -> Tensor:
    residual = torch.tensordot(coefficients[0], state["residual"], dims=1)
    head = (state["left"] * coefficients[1]) @ state["right"].T
    merged: Tensor = base.float() + residual + head
    return merged


METHOD = Method(
    name="resmerge",
    params=Scaled,
    prepare=prepare,
    weigh=weigh,
    combine=combine,
    elsewhere={"vector": task_arithmetic.MEAN, "embedding": task_arithmetic.MEAN},
    # Delta, residual and a factorisation's copy for each source; what merges them.
    footprint=bytes_held(3, whole=8, squares=2),
    least_sources=2,
    one_source_is_itself=False,
)
