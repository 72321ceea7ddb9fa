"""Iso-C and Iso-CTS, and the polar factor that they stand on."""

import pytest
import torch
from examples import site
from torch import Tensor

import safemerge.methods.common.span
from safemerge.factors import factorise
from safemerge.methods import METHODS, Site
from safemerge.methods.common.polar import polar
from safemerge.methods.iso_cts import own_rank

SHAPES = [(6, 10), (10, 6), (8, 8), (1, 5), (5, 1)]


def random(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def merged(name: str, deltas: Tensor, weights: list[float], **params: object) -> Tensor:
    """The merge of deltas onto a base of zeros."""
    method = METHODS[name]
    parsed = method.parse(params)
    base = torch.zeros_like(deltas[0])
    site = Site("model.layers.0.mlp.up_proj.weight", tuple("abcdef"[: len(deltas)]), factorise)
    state = method.prepare(base, deltas, parsed, site)
    return method.merged(base, state, torch.tensor(weights, dtype=deltas.dtype), parsed)


def iso_c_of_the_paper(deltas: Tensor, weights: list[float]) -> Tensor:
    """With an SVD in float64, as 2502.04959 has it."""
    total = torch.tensordot(torch.tensor(weights).double(), deltas.double(), dims=1)
    u, s, vh = torch.linalg.svd(total, full_matrices=False)
    return s.mean() * u @ vh


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_polar_factor_is_that_of_the_svd(shape: tuple[int, int]) -> None:
    matrix = random(shape)
    u, _, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    torch.testing.assert_close(polar(matrix).double(), u @ vh, atol=1e-6, rtol=0)


def test_an_ill_conditioned_polar_factor_is_still_orthogonal() -> None:
    """Singular values over five orders of magnitude: float32 would lose the small half."""
    u, v = (torch.linalg.qr(random((40, 40), seed)).Q for seed in (1, 2))
    factor = polar((u * torch.logspace(0, -5, 40)) @ v.T)
    torch.testing.assert_close(factor @ factor.T, torch.eye(40), atol=1e-5, rtol=0)


def test_directions_that_a_matrix_lacks_are_zero_in_its_polar_factor() -> None:
    matrix = random((8, 3)) @ random((3, 12), 1)
    s = torch.linalg.svdvals(polar(matrix))
    torch.testing.assert_close(s, torch.tensor([1.0] * 3 + [0.0] * 5), atol=1e-5, rtol=0)
    assert not polar(torch.zeros(4, 6)).any()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_derivative_of_the_polar_factor(shape: tuple[int, int]) -> None:
    matrix = random(shape, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(polar, matrix)


def test_the_derivative_survives_equal_singular_values() -> None:
    matrix = torch.eye(4, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(polar, matrix)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_iso_c_equals_the_svd(shape: tuple[int, int]) -> None:
    deltas = random((3, *shape))
    found = merged("iso_c", deltas, [0.5, -0.3, 1.2])
    expected = iso_c_of_the_paper(deltas, [0.5, -0.3, 1.2]).float()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_iso_c_is_proportional_to_common_weights() -> None:
    deltas = random((3, 6, 10))
    once, twice = (merged("iso_c", deltas, [w, w / 2, w]) for w in (0.4, 0.8))
    torch.testing.assert_close(twice, 2 * once, atol=1e-5, rtol=0)


def iso_cts_of_the_paper(deltas: Tensor, weights: list[float], common: float) -> Tensor:
    """With SVDs in float64, line by line."""
    deltas = torch.tensor(weights).double()[:, None, None] * deltas.double()
    n_sources, rank = len(deltas), min(deltas[0].shape)
    k = rank - n_sources * min(round((1 - common) * rank / n_sources), rank // n_sources)
    own = (rank - k) // n_sources

    def svd(matrix: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        return u[:, :k], s[:k], vh[:k].T

    u_c, s_c, v_c = svd(deltas.sum(dim=0), k)
    parts = [svd(delta - u_c @ u_c.T @ delta, own) for delta in deltas]
    u, s, v = (
        torch.cat([*(part[i] for part in parts), last], dim=-1)
        for i, last in enumerate((u_c, s_c, v_c))
    )
    sides = []
    for side in (u, v):
        left, _, right = torch.linalg.svd(side, full_matrices=False)
        sides.append(left @ right)
    return s.mean() * sides[0] @ sides[1].T


@pytest.mark.parametrize("common", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("shape", [(10, 16), (16, 10), (12, 12)], ids=str)
def test_iso_cts_equals_the_svds(shape: tuple[int, int], common: float) -> None:
    deltas = random((3, *shape))
    found = merged("iso_cts", deltas, [0.5, -0.3, 1.2], common=common)
    expected = iso_cts_of_the_paper(deltas, [0.5, -0.3, 1.2], common).float()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_iso_cts_with_nothing_but_the_common_part_is_iso_c(shape: tuple[int, int]) -> None:
    deltas = random((3, *shape))
    weights = [0.5, -0.3, 1.2]
    found = merged("iso_cts", deltas, weights, common=1.0)
    torch.testing.assert_close(found, merged("iso_c", deltas, weights), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("rank", "n_sources", "common", "own"),
    # 0.2 * 768 / 8 = 19.2; a rank of 8 has no place for three times three directions
    [(768, 8, 0.8, 19), (8, 3, 0.0, 2), (10, 3, 0.8, 1), (3, 4, 0.5, 0), (0, 2, 0.8, 0)],
)
def test_ranks_beside_the_common_part(rank: int, n_sources: int, common: float, own: int) -> None:
    assert own_rank(rank, n_sources, common) == own


def test_a_source_of_weight_0_has_no_directions_of_its_own() -> None:
    """Which directions it has makes no difference then."""
    deltas = random((3, 12, 16))
    other = deltas.clone()
    other[2] = random((12, 16), 9)
    weights = [0.5, 0.8, 0.0]
    assert torch.equal(merged("iso_cts", deltas, weights), merged("iso_cts", other, weights))


@pytest.mark.parametrize("name", ["iso_c", "iso_cts"])
@pytest.mark.parametrize("shape", [(40, 60), (60, 40)], ids=str)
def test_loras_merge_to_what_they_span(name: str, shape: tuple[int, int]) -> None:
    """Two LoRAs of rank 3, read back from float32 weights, have six directions between them: the
    noise of rounding gets no strength."""
    left, right = random((2, shape[0], 3)), random((2, shape[1], 3), 1)
    base = 20 * random(shape, 2)
    deltas = (base + left @ right.mT) - base
    s = torch.linalg.svdvals(merged(name, deltas, [1.0, 0.7]))
    assert (s[:6] > 0.1).all()
    assert (s[6:] < 1e-5).all()


@pytest.mark.parametrize("name", ["iso_c", "iso_cts"])
@pytest.mark.parametrize("shape", [(260, 300), (300, 260)], ids=str)
def test_loras_are_merged_in_their_span_with_the_same_numbers(
    name: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one whole side 260, three LoRAs of rank 4 take 12 directions."""
    deltas = random((3, shape[0], 4)) @ random((3, shape[1], 4), 1).mT
    method, weights = METHODS[name], [0.5, -0.3, 1.2]
    small = method.prepare(deltas[0], deltas, method.parse({}), site("abc"))["deltas"]
    assert small.shape == (3, 12, 12)
    in_span = merged(name, deltas, weights)
    monkeypatch.setattr(safemerge.methods.common.span, "low_rank", lambda delta: None)
    torch.testing.assert_close(in_span, merged(name, deltas, weights), atol=1e-5, rtol=0)


def test_a_source_of_full_rank_keeps_all_as_they_are() -> None:
    deltas = random((2, 300, 300))
    deltas[0] = random((300, 4)) @ random((4, 300), 1)
    state = METHODS["iso_c"].prepare(deltas[0], deltas, METHODS["iso_c"].parse({}), site("ab"))
    assert torch.equal(state["deltas"], deltas)
