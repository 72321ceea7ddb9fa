"""SVC: after a merge, shrink the directions that several sources share and a sum counts twice.

Source: Singular value calibration, 2026 (2602.05536), in the form of FusionBench's code. Of what a
method adds to the base, M = U S V', per left singular vector u_r and source i:

    a_r    = u_r' M,   a_r^i = u_r' D_i
    s_r^i  = <a_r, a_r^i> / |a_r^i|^2          above 1: more of it than the source itself has
    gamma_r = T / sum_i max(alpha, s_r^i)
    theta  = base + U diag(gamma) U' M

Matrices alone. T counts the sources whose weight is not 0. The directions turn where singular
values cross, so there is no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from safemerge.low_rank import Deltas, dense
from safemerge.methods.common.method import Method, Site, State
from safemerge.methods.common.params import Params
from safemerge.methods.common.ranks import bytes_held
from safemerge.methods.common.stage import Stage


class SvcParams(Params):
    """`alpha`, in (0, 1], is the least s that counts: 1 only shrinks, less also strengthens."""

    alpha: float = Field(default=1.0, gt=0.0, le=1.0)


@torch.no_grad()
def calibrated(merged: Tensor, deltas: Sequence[Tensor], alpha: float) -> Tensor:
    """U diag(gamma) U' M of M (out, in), from the deltas that went into it, each (out, in)."""
    out, into = merged.shape
    if not len(deltas) or min(out, into) == 0:
        return merged
    exact = merged.double()
    if out <= into:
        u = torch.linalg.eigh(exact @ exact.T).eigenvectors
    else:
        values, v = torch.linalg.eigh(exact.T @ exact)
        u = exact @ (v * torch.where(values > 0, values, torch.inf).rsqrt())
    left = u.to(merged.dtype)  # (out, r)
    response = left.T @ merged  # (r, in)
    total = torch.zeros_like(response[:, 0])
    for delta in deltas:
        own = left.T @ delta
        size = own.square().sum(dim=1)
        product = (response * own).sum(dim=1)
        total += torch.where(size > 0, product / size, 0.0).clamp_min(alpha)
    result: Tensor = left @ ((len(deltas) / total)[:, None] * response)
    return result


def around(method: Method) -> Method:
    """The method with what it adds calibrated."""

    def prepare(base: Tensor, deltas: Deltas, params: Any, site: Site) -> State:
        whole = deltas if isinstance(deltas, Tensor) else torch.stack([*map(dense, deltas)])
        return _beside(method.prepare(base, deltas, params, site), whole)

    def combine(base: Tensor, state: State, weights: Tensor, params: Any) -> Tensor:
        deltas = _deltas(state)
        exact = base.to(deltas.dtype)
        added = method.merged(torch.zeros_like(exact), state, weights, params)
        counted = [d for d, w in zip(deltas, weights.tolist(), strict=True) if w != 0.0]
        return exact + calibrated(added, counted, params.alpha)

    select = method.select

    def select_beside(state: State, selection: Any, params: Any) -> State:
        assert select is not None
        return _beside(select(state, selection, params), _deltas(state))

    def footprint(shape: tuple[int, ...], n_sources: int) -> int:
        return bytes_held(1, whole=12, squares=8)(shape, n_sources) + method.footprint(
            shape, n_sources
        )

    return replace(
        method,
        prepare=prepare,
        select=None if select is None else select_beside,
        weigh=None,
        combine=torch.no_grad()(combine),
        piecewise=False,
        sums=None,
        rows=False,
        entrywise=(),
        linear=False,
        elsewhere={role: method.for_role(role) for role in ("vector", "embedding")},
        footprint=footprint,
        differentiable=False,
    )


def _beside(state: State, deltas: Tensor) -> State:
    """A state with the deltas, once: stores take no tensor twice."""
    return state if state.get("deltas") is deltas else {**state, "svc_deltas": deltas}


def _deltas(state: State) -> Tensor:
    return state["svc_deltas"] if "svc_deltas" in state else state["deltas"]


STAGE = Stage("svc", SvcParams, around)
