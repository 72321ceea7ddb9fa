"""Factors: exact or measured, the same every time, and a store that keeps to its limit."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from torch import Tensor

import safemerge.factors
from safemerge.cache import factor_store
from safemerge.errors import ConfigError
from safemerge.factors import Factors, FactorStore, factorise


def with_spectrum(s: Tensor, out: int, into: int) -> Tensor:
    """A matrix (out, in) with singular values s (r,) and random singular vectors."""
    random = torch.Generator().manual_seed(0)
    u = torch.linalg.qr(torch.randn(out, len(s), generator=random)).Q
    v = torch.linalg.qr(torch.randn(into, len(s), generator=random)).Q
    return (u * s) @ v.T


def product(factors: Factors) -> Tensor:
    return (factors.u.double() * factors.s.double()) @ factors.v.double().T


def small(seed: int = 0) -> Tensor:
    """A delta whose factor file has about 1.6 kB."""
    return torch.randn(8, 12, generator=torch.Generator().manual_seed(seed))


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
    store = FactorStore(tmp_path)
    delta = with_spectrum(SPECTRA["power law"], 300, 400)
    assert store(delta, 4).s.shape == (4,)
    assert store(delta).s.shape == (300,)
    assert len(list(tmp_path.iterdir())) == 2


def filled(folder: Path, n_deltas: int) -> list[Path]:
    """Files of that many deltas, the first one oldest."""
    paths: list[Path] = []
    for seed in range(n_deltas):
        FactorStore(folder)(small(seed))
        (new,) = set(folder.iterdir()) - set(paths)
        os.utime(new, (1000.0 + seed, 1000.0 + seed))
        paths.append(new)
    return paths


def test_over_the_limit_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    paths = filled(tmp_path, 4)
    limit_gb = 4.5e-9 * paths[0].stat().st_size
    FactorStore(tmp_path, limit_gb)(small(0))  # used again: now the second one is the oldest
    FactorStore(tmp_path, limit_gb)(small(9))
    assert [path.exists() for path in paths] == [True, False, True, True]
    assert len(list(tmp_path.iterdir())) == 4


def test_what_a_run_has_asked_for_is_never_deleted_by_it(tmp_path: Path) -> None:
    paths = filled(tmp_path, 3)
    store = FactorStore(tmp_path, 3.5e-9 * paths[0].stat().st_size)
    for seed in (0, 1, 2, 7, 8):
        factors = store(small(seed))
        torch.testing.assert_close(product(factors).float(), small(seed), atol=1e-5, rtol=0)
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_no_room_at_all_is_no_obstacle(tmp_path: Path) -> None:
    assert FactorStore(tmp_path, 0.0)(small()).s.shape == (8,)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_behind_is_removed_for_room(tmp_path: Path) -> None:
    (abandoned := tmp_path / "x.partial-1234").write_bytes(bytes(5000))
    os.utime(abandoned, (1000.0, 1000.0))
    (growing := tmp_path / "y.partial-5678").write_bytes(bytes(10))
    FactorStore(tmp_path, 5e-6)(small())
    assert not abandoned.exists()
    assert growing.exists()
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_a_shared_store_that_is_read_only_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = filled(tmp_path, 1)

    def refused(*args: object, **kwargs: object) -> NoReturn:
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "utime", refused)
    monkeypatch.setattr(safemerge.factors, "factorise", refused)
    assert FactorStore(tmp_path)(small()).s.shape == (8,)
    assert path.exists()


def test_two_processes_at_the_limit_do_not_disturb_each_other(tmp_path: Path) -> None:
    script = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from safemerge.factors import FactorStore\n"
        "for turn in range(40):\n"
        "    store = FactorStore(Path(sys.argv[1]), 8e-6)\n"
        "    for seed in range(9):\n"
        "        random = torch.Generator().manual_seed((seed + turn) % 9)\n"
        "        delta = torch.randn(8, 12, generator=random)\n"
        "        f = store(delta)\n"
        "        assert torch.allclose((f.u * f.s) @ f.v.T, delta, atol=1e-5)\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path)]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    talk = [run.communicate(timeout=120)[1] for run in runs]
    assert talk == ["", ""]
    assert [run.returncode for run in runs] == [0, 0]
    files = list(tmp_path.iterdir())
    assert files
    assert all(path.suffix == ".safetensors" for path in files)
    # Both may have found room for the same bytes at once.
    assert sum(path.stat().st_size for path in files) <= 8000 + 2000


def test_the_limit_of_the_users_cache_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SAFEMERGE_CACHE_GB", raising=False)
    assert factor_store().limit_gb == 20.0
    monkeypatch.setenv("SAFEMERGE_CACHE_GB", "1.5")
    assert factor_store().limit_gb == 1.5
    for wrong in ("lots", "-1", "nan"):
        monkeypatch.setenv("SAFEMERGE_CACHE_GB", wrong)
        with pytest.raises(ConfigError, match=r"SAFEMERGE_CACHE_GB is .* gigabytes, 0 or more"):
            factor_store()


def test_files_of_another_version_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, 1)
    monkeypatch.setattr(safemerge.factors, "_VERSION", safemerge.factors._VERSION + 1)
    FactorStore(tmp_path)(small())
    assert len(list(tmp_path.iterdir())) == 2
