"""Methods that measure sources against an aligned one: safe projection and the alignment guard."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from safemerge import ModelRef, Recipe, merge
from safemerge.errors import RecipeError
from safemerge.factors import factorise
from safemerge.methods import METHODS, Selection, Site

SHAPES = [(8, 12), (12, 8), (1, 6), (6, 1)]
SITE = Site("model.layers.0.mlp.up_proj.weight", ("skill", "other", "guard"), factorise)
WEIGHTS = [1.0, 0.5, 0.8]

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def draw(shape: tuple[int, int]) -> Tensor:
    """Deltas (3, out, in); the second leans on the third, which is the aligned one."""
    deltas = 0.3 * torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    deltas[1] += 2.0 * deltas[2]
    return deltas


def project(deltas: Tensor, **params: object) -> Tensor:
    """Safe projection onto a base of zeros."""
    method = METHODS["safe_projection"]
    parsed = method.parse({"aligned": "guard"} | params)
    base = torch.zeros_like(deltas[0])
    state = method.prepare(base, deltas, parsed, SITE)
    return method.merged(base, state, torch.tensor(WEIGHTS), parsed)


def guard(
    deltas: Tensor,
    rho: tuple[float, float, float] = (1.0, 1.0, 1.0),
    rank_ratio: float | None = None,
    weights: list[float] = WEIGHTS,
) -> Tensor:
    """The alignment guard onto a base of zeros."""
    method = METHODS["alignment_guard"]
    params = method.parse({"aligned": "guard"})
    base = torch.zeros_like(deltas[0])
    assert method.select is not None
    state = method.prepare(base, deltas, params, SITE)
    state = method.select(state, Selection(rank_ratio, None, {"rho": rho}), params)
    return method.merged(base, state, torch.tensor(weights), params)


def weighted(deltas: Tensor) -> Tensor:
    return torch.tensordot(torch.tensor(WEIGHTS), deltas, dims=1)


def safe_lora(deltas: Tensor, tau: float) -> tuple[Tensor, list[float]]:
    """The published criterion in float64: projected deltas, and the cosines of the first two."""
    v = deltas[2].double()
    p = v @ v.T / v.norm()
    kept, cosines = deltas.double().clone(), []
    for i in range(2):
        projected = p @ kept[i]
        cosines.append((projected * kept[i]).sum() / (projected.norm() * kept[i].norm()))
        if min(cosines[-1].item(), 1.0) <= tau:
            kept[i] = projected
    return kept.float(), [cosine.item() for cosine in cosines]


@each_shape
@pytest.mark.parametrize("tau", [-1.0, 0.5, 0.75, 1.0])
def test_safe_projection_equals_the_published_criterion(shape: tuple[int, int], tau: float) -> None:
    deltas = draw(shape)
    expected, _ = safe_lora(deltas, tau)
    torch.testing.assert_close(project(deltas, tau=tau), weighted(expected), atol=1e-5, rtol=0)


def test_tau_decides_between_a_delta_that_strays_and_one_that_does_not() -> None:
    deltas = draw((8, 12))
    _, (strays, leans) = safe_lora(deltas, 0.0)
    assert strays < leans
    between = project(deltas, tau=(strays + leans) / 2)
    only_first = deltas.clone()
    only_first[0] = safe_lora(deltas, 1.0)[0][0]
    torch.testing.assert_close(between, weighted(only_first), atol=1e-5, rtol=0)


@each_shape
def test_no_alignment_delta_is_no_evidence(shape: tuple[int, int]) -> None:
    deltas = draw(shape)
    deltas[2] = 0.0
    assert torch.equal(project(deltas, tau=1.0), weighted(deltas))
    assert torch.equal(guard(deltas, rank_ratio=1.0), weighted(deltas))


@each_shape
@pytest.mark.parametrize("ratio", [0.25, 0.5, 1.0])
def test_the_guard_is_its_formula(shape: tuple[int, int], ratio: float) -> None:
    """sum_i w_i (D_i - rho_i U_k U_k' D_i V_k V_k'), with rho = 0 for the aligned source."""
    deltas = draw(shape).double()
    k, rho = max(1, int(ratio * min(shape))), (0.7, 0.3, 0.0)
    u, _, vh = torch.linalg.svd(deltas[2], full_matrices=False)
    left, right = u[:, :k] @ u[:, :k].T, vh[:k].T @ vh[:k]
    damped = [
        delta - share * left @ delta @ right for delta, share in zip(deltas, rho, strict=True)
    ]
    found = guard(draw(shape), (0.7, 0.3, 1.0), ratio)
    torch.testing.assert_close(found, weighted(torch.stack(damped).float()), atol=1e-5, rtol=0)


@each_shape
def test_the_guard_at_rho_0_is_task_arithmetic(shape: tuple[int, int]) -> None:
    deltas = draw(shape)
    torch.testing.assert_close(guard(deltas, (0.0, 0.0, 1.0), 1.0), weighted(deltas))


@pytest.mark.parametrize("ratio", [0.25, 0.5])
def test_the_guard_at_rho_1_leaves_nothing_inside_the_subspace(ratio: float) -> None:
    deltas = draw((8, 12))
    k = int(ratio * 8)
    u, _, vh = torch.linalg.svd(deltas[2], full_matrices=False)
    found = guard(deltas, rank_ratio=ratio, weights=[1.0, 1.0, 0.0])
    inside = u[:, :k].T @ found @ vh[:k].T
    torch.testing.assert_close(inside, torch.zeros(k, k), atol=1e-5, rtol=0)
    change = deltas[0] + deltas[1] - found
    torch.testing.assert_close(
        change, u[:, :k] @ u[:, :k].T @ change @ vh[:k].T @ vh[:k], atol=1e-5, rtol=0
    )


def test_the_guard_damps_each_source_by_its_own_rho_and_the_aligned_one_not_at_all() -> None:
    deltas = draw((8, 12))
    plain = weighted(deltas)
    first, second = (guard(deltas, rho, 0.5) - plain for rho in ((1.0, 0, 1.0), (0, 1.0, 0)))
    torch.testing.assert_close(
        guard(deltas, (0.5, 0.25, 1.0), 0.5),
        plain + 0.5 * first + 0.25 * second,
        atol=1e-6,
        rtol=0,
    )


def test_the_guard_takes_no_directions_that_the_aligned_delta_lacks() -> None:
    """An aligned LoRA of rank 2 has two directions at any rank ratio."""
    deltas = draw((8, 12))
    u, s, vh = torch.linalg.svd(deltas[2], full_matrices=False)
    deltas[2] = (u[:, :2] * s[:2]) @ vh[:2]
    assert torch.equal(guard(deltas, rank_ratio=1.0), guard(deltas, rank_ratio=0.25))


@pytest.mark.parametrize("method", ["safe_projection", "alignment_guard"])
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "aligned is missing, and it has no default"),
        ({"aligned": "d"}, "aligned is 'd', which is no source of the recipe; known: a, b, c"),
        ({"alined": "a"}, "there is no key 'alined'; correct its spelling"),
    ],
)
def test_the_aligned_source_has_to_be_named(
    goldens: Path, tmp_path: Path, method: str, params: dict[str, object], message: str
) -> None:
    one = Recipe(
        base=ModelRef(name="base", path=str(goldens / "models/base")),
        sources=tuple(ModelRef(name=n, path=str(goldens / "models" / n)) for n in "abc"),
        method=method,
        params=params,
        weights={"default": {"a": 1.0}},
    )
    with pytest.raises(RecipeError, match=rf"method '{method}': {message}"):
        merge(one, tmp_path / "out")
    assert not list(tmp_path.iterdir())
