"""TSV-M: concatenate the leading singular vectors of every delta, decorrelate them, multiply back.

Source: Gargiulo et al. 2024, Task Singular Vectors (2412.00081). With the k leading triplets of
every delta side by side, K = T k: U (out, K), V (in, K), singular values S (K,),

    U_perp = U (U'U)^(-1/2)      V_perp = V (V'V)^(-1/2)
    theta  = base + scale * U_perp diag(w_i S_i) V_perp'

Where `ranks` is "threshold", source i keeps the triplets above its own noise (`hard_threshold.py`),
as far as the rank ratio allows, if one is given.

Another rank takes two Gram matrices and eigendecompositions (K, K), and never an SVD. Vectors are
the mean of the weighted deltas, as in the paper's code; embeddings and heads are task arithmetic,
since singular vectors would mix tokens.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from safemerge.low_rank import Deltas
from safemerge.methods import task_arithmetic
from safemerge.methods.common.method import Method, Selection, Site, Span, State
from safemerge.methods.common.params import Scaled
from safemerge.methods.common.ranks import RankLimited, bytes_held, kept_rank
from safemerge.methods.hard_threshold import check_rank_rule, threshold_rank
from safemerge.recipe import Recipe

# Singular values of U below 1e-5 of the largest count as zero: float32 vectors are orthonormal to
# about 1e-6, and the eigenvalues of U'U are the squares.
_EIGENVALUE_FLOOR = 1e-10
# Where the least eigenvalue of U'U is above this share of the largest, float32 gives U_perp with a
# relative error of at most 5e-5, in half the time of float64.
_SINGLE_FLOOR = 1e-3
_SINGLE_FILL = 0.9  # up to this ratio of the sides trying float32 pays


class TsvmParams(RankLimited):
    """Beside `RankLimited`, `ranks`: "even" is floor(r / T) of each source, the paper's."""

    ranks: Literal["even", "threshold"] = "even"

    def check_against(self, recipe: Recipe) -> None:
        super().check_against(recipe)
        check_rank_rule(recipe, self.ranks, self.rank_limit)


def prepare(base: Tensor, deltas: Deltas, params: RankLimited, site: Site) -> State:
    """`u` (n_sources, out, c), `s` (n_sources, c), `v` (n_sources, in, c), float32, with c the
    triplets of the source that has most; zero where a source has fewer.
    """
    factors = [site.svd(delta, params.computed_rank(base)) for delta in deltas]
    most = max(one.s.numel() for one in factors)

    def stacked(parts: list[Tensor]) -> Tensor:
        stack = parts[0].new_zeros(len(parts), *parts[0].shape[:-1], most)
        for into, part in zip(stack, parts, strict=True):
            into[..., : part.shape[-1]] = part
        return stack

    return {key: stacked([getattr(one, key) for one in factors]) for key in ("u", "s", "v")}


def select(state: State, selection: Selection, params: TsvmParams) -> State:
    if params.ranks == "threshold":
        return decorrelate(*above_noise(state, selection))
    return decorrelate(state, kept_rank(rank_of(state), len(state["s"]), selection.rank_ratio))


def above_noise(state: State, selection: Selection) -> tuple[State, int]:
    """`u`, `s` and `v` with zero for triplets under the threshold of their source, and how many
    are kept of the source that keeps most: no more than the rank ratio allows.
    """
    shape = state["u"].shape[1], state["v"].shape[1]
    ranks = [
        threshold_rank(s, shape, noise)
        for s, noise in zip(state["s"], selection.per_source["noise"], strict=True)
    ]
    ratio = 1.0 if selection.rank_ratio is None else selection.rank_ratio
    most = min(max(ranks), kept_rank(min(shape), 1, ratio))
    kept = torch.arange(most) < torch.tensor(ranks)[:, None]  # (n_sources, most)
    kept = kept.to(state["s"].device)
    vectors = {key: state[key][:, :, :most] * kept[:, None] for key in ("u", "v")}
    return {**vectors, "s": state["s"][:, :most] * kept}, most


def rank_of(state: State) -> int:
    """min(out, in) of the matrix that a state belongs to."""
    return min(state["u"].shape[1], state["v"].shape[1])


def decorrelate(state: State, kept: int) -> State:
    """Decorrelate the `kept` = k leading triplets of each source, or all where there are fewer.

    Returns `left` (out, T k) = U_perp, `right` (in, T k) = V_perp, `s` (T, k).
    """
    kept = min(kept, state["s"].shape[1])
    s = state["s"][:, :kept]
    return {
        "left": _decorrelated(state["u"][:, :, :kept], s > 0),
        "right": _decorrelated(state["v"][:, :, :kept], s > 0),
        "s": s,
    }


def combine(base: Tensor, state: State, weights: Tensor, params: Scaled) -> Tensor:
    middle = (params.scale * weights[:, None] * state["s"]).reshape(-1)  # (T k,)
    left, right = state["left"], state["right"]
    return torch.addmm(base.to(left.dtype), left * middle, right.T)


def _decorrelated(parts: Tensor, present: Tensor) -> Tensor:
    """U_perp (side, K), float32: the polar factor of the vectors of all sources side by side.

    `parts` (n_sources, side, k) are orthonormal for each source where `present` (n_sources, k) says
    that there is a vector, else zero. The eigendecomposition is taken on the smaller side.
    """
    vectors = parts.permute(1, 0, 2).flatten(1)  # (side, K)
    side, kept = vectors.shape
    wide = kept > side
    if min(side, kept) <= _SINGLE_FILL * max(side, kept):
        root, least = _inverse_root(vectors @ vectors.T if wide else _gram(parts, present))
        if least > _SINGLE_FLOOR:
            return root @ vectors if wide else vectors @ root
    exact = vectors.double()
    if wide:
        return (_inverse_root(exact @ exact.T)[0] @ exact).float()
    return (exact @ _inverse_root(exact.T @ exact)[0]).float()


def _gram(parts: Tensor, present: Tensor) -> Tensor:
    """U'U (K, K); the block of one source is known."""
    n_sources, _, kept = parts.shape
    blocks = parts.new_zeros(n_sources, kept, n_sources, kept)
    for i, part in enumerate(parts):
        blocks[i, :, i] = torch.diag(present[i].to(parts.dtype))
        for j in range(i):
            blocks[i, :, j] = part.T @ parts[j]
            blocks[j, :, i] = blocks[i, :, j].T
    return blocks.reshape(n_sources * kept, n_sources * kept)


def _inverse_root(gram: Tensor) -> tuple[Tensor, float]:
    """Pseudo-inverse square root of a symmetric positive semidefinite matrix (K, K), and its least
    eigenvalue over the largest. Of near duplicates its entries cancel: too much for float32.
    """
    if gram.numel() == 0:
        return gram, 1.0
    values, vectors = torch.linalg.eigh(gram)
    keep = values > _EIGENVALUE_FLOOR * values[-1]
    roots = torch.where(keep, values, 1.0).rsqrt() * keep
    return (vectors * roots) @ vectors.T, (values[0] / values[-1]).item()


METHOD = Method(
    name="tsvm",
    params=TsvmParams,
    prepare=prepare,
    select=select,
    combine=combine,
    elsewhere={"vector": task_arithmetic.MEAN, "embedding": task_arithmetic.METHOD},
    # Delta, u and v of each source; polar factors of both sides and decompositions in float64.
    footprint=bytes_held(3, whole=10, squares=12),
    per_source={"noise": Span(default=1.0, low=0.5, high=2.0)},
    spectral=True,
    low_rank=True,
    prepare_key=lambda params: (params.rank_limit, params.ranks),
    slow_select=True,
)
