"""Factors: exact or measured, and the same every time."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import safemerge.factors
from safemerge.factors import FACTORS_VERSION, Factors, factorise, factoriser
from safemerge.store import TensorStore


def with_spectrum(s: Tensor, out: int, into: int) -> Tensor:
    """A matrix (out, in) with singular values s (r,) and random singular vectors."""
    random = torch.Generator().manual_seed(0)
    u = torch.linalg.qr(torch.randn(out, len(s), generator=random)).Q
    v = torch.linalg.qr(torch.randn(into, len(s), generator=random)).Q
    return (u * s) @ v.T


def product(factors: Factors) -> Tensor:
    return (factors.u.double() * factors.s.double()) @ factors.v.double().T


RANKS = torch.arange(1, 301).float()
SPECTRA = {
    "power law": 1 / RANKS,
    "root": RANKS**-0.5,
    "exponential": torch.exp(-RANKS / 20),
    "flat": torch.ones(300),
    "ties in steps": 0.9 ** (RANKS // 8),
    "low rank": torch.cat([torch.linspace(5, 1, 10), torch.zeros(290)]),
    "low rank and noise": torch.cat([torch.linspace(5, 1, 10), torch.full((290,), 0.05)]),
}


@pytest.mark.parametrize("shape", [(40, 60), (300, 320), (300, 600), (600, 300)], ids=str)
@pytest.mark.parametrize("name", ["power law", "low rank"])
def test_all_triplets_are_exact(shape: tuple[int, int], name: str) -> None:
    spectrum = SPECTRA[name][: min(shape)]
    delta = with_spectrum(spectrum, *shape)
    factors = factorise(delta)
    rank = int((spectrum > 0).sum())
    torch.testing.assert_close(factors.s, spectrum[:rank], atol=5e-6, rtol=0)
    assert (product(factors) - delta).norm() <= 1e-5 * delta.norm()
    for side in (factors.u, factors.v):
        torch.testing.assert_close(side.T @ side, torch.eye(rank), atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [60, 300])
def test_a_lora_has_as_many_triplets_as_its_rank(side: int) -> None:
    """Read back from weights to which its product was added, in float32."""
    base, left, right = (
        torch.randn(side, n, generator=torch.Generator().manual_seed(n)) for n in (side, 4, 5)
    )
    lora = 1e-3 * left @ right[:, :4].T
    factors = factorise((0.02 * base + lora) - 0.02 * base)
    assert factors.s.shape == (4,)
    assert (product(factors) - lora).norm() <= 1e-5 * lora.norm()


@pytest.mark.parametrize("rank", [1, 8, 30])
@pytest.mark.parametrize("name", SPECTRA)
def test_leading_triplets_are_within_the_bound(name: str, rank: int) -> None:
    """The bound is that of the kept part against the exact kept part, which at a tie is not one
    matrix but many; there the two are compared by how well they approximate the delta."""
    delta = with_spectrum(SPECTRA[name], 300, 400)
    found = factorise(delta, rank)
    there = min(rank, 10) if name == "low rank" else rank
    assert found.u.shape == (300, there)
    assert found.v.shape == (400, there)
    exact = factorise(delta).leading(rank)
    kept = product(exact)
    if SPECTRA[name][rank - 1] > 1.001 * SPECTRA[name][rank]:
        assert (product(found) - kept).norm() <= 1e-3 * kept.norm()
    assert (delta - product(found)).norm() <= (1 + 1e-5) * (delta - kept).norm() + 1e-5
    torch.testing.assert_close(found.s, exact.s, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["flat", "ties in steps"])
def test_where_no_leading_part_settles_the_exact_one_is_returned(name: str) -> None:
    delta = with_spectrum(SPECTRA[name], 300, 400)
    assert torch.equal(factorise(delta, 5).u, factorise(delta).u[:, :5])


def test_a_decaying_spectrum_needs_no_full_svd(monkeypatch: pytest.MonkeyPatch) -> None:
    delta = with_spectrum(SPECTRA["power law"], 300, 400)
    full = torch.linalg.svd

    def only_small(matrix: Tensor, full_matrices: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        assert min(matrix.shape) < 100
        u, s, vh = full(matrix, full_matrices=full_matrices)
        return u, s, vh

    monkeypatch.setattr(torch.linalg, "svd", only_small)
    assert factorise(delta, 10).s.shape == (10,)


@pytest.mark.parametrize("rank", [None, 1, 3])
@pytest.mark.parametrize("shape", [(0, 4), (1, 5), (5, 1), (2, 2), (300, 300)], ids=str)
def test_zero_and_empty_deltas_have_no_factors(shape: tuple[int, int], rank: int | None) -> None:
    factors = factorise(torch.zeros(shape), rank)
    assert factors.u.shape == (shape[0], 0)
    assert factors.s.shape == (0,)
    assert factors.v.shape == (shape[1], 0)


def test_the_same_delta_and_rank_give_the_same_bits() -> None:
    delta = with_spectrum(SPECTRA["power law"], 300, 400)
    torch.manual_seed(1)
    one = factorise(delta, 10)
    torch.manual_seed(2)
    assert torch.equal(one.u, factorise(delta, 10).u)


def test_a_store_keeps_ranks_apart(tmp_path: Path) -> None:
    factors = factoriser(TensorStore(tmp_path))
    delta = with_spectrum(SPECTRA["power law"], 300, 400)
    assert factors(delta, 4).s.shape == (4,)
    assert factors(delta).s.shape == (300,)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_a_store_kept_is_what_was_computed(tmp_path: Path, dtype: torch.dtype) -> None:
    delta = with_spectrum(SPECTRA["power law"], 300, 400).to(dtype)
    computed = factorise(delta)
    for _ in range(2):
        kept = factoriser(TensorStore(tmp_path))(delta)
        assert all(torch.equal(getattr(kept, name), getattr(computed, name)) for name in "usv")


def test_files_of_another_version_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delta = with_spectrum(torch.ones(3), 8, 12)
    factoriser(TensorStore(tmp_path))(delta)
    monkeypatch.setattr(safemerge.factors, "FACTORS_VERSION", FACTORS_VERSION + 1)
    factoriser(TensorStore(tmp_path))(delta)
    assert len(list(tmp_path.iterdir())) == 2
