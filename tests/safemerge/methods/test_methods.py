"""What is special to single methods. The contract that all pass is in test_contract.py."""

from pathlib import Path

import pytest
import torch
from examples import draw, merge, site
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from safemerge.methods import METHODS, Selection
from safemerge.methods.resm import outlier_weights, winsorise

GOLDENS = Path(__file__).parents[2] / "data" / "goldens"


@pytest.mark.parametrize("case", ["0", "1", "2", "3"])
def test_tsvm_equals_the_reference(case: str) -> None:
    golden = load_file(GOLDENS / "tsvm.safetensors")
    deltas = torch.stack([golden[f"{case}.delta.{i}"] for i in range(3)])
    merged = merge(METHODS["tsvm"], torch.zeros_like(deltas[0]), deltas, [1.0, 1.0, 1.0])
    # The reference takes its SVDs in float64; near full rank that shows in the fifth digit.
    torch.testing.assert_close(merged, golden[f"{case}.merged"], atol=5e-5, rtol=0)


def test_tsvm_directions_of_different_sources_are_orthogonal() -> None:
    base, deltas = draw((24, 40))
    method = METHODS["tsvm"]
    params = method.parse({})
    state = method.prepare(base, deltas, params, site("abc"))
    assert method.select is not None
    chosen = method.select(state, Selection(), params)
    for side in ("left", "right"):
        gram = chosen[side].T @ chosen[side]
        torch.testing.assert_close(gram, torch.eye(24), atol=1e-4, rtol=0)


@given(
    rows=st.integers(2, 16),
    columns=st.integers(2, 16),
    n_sources=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=40)
def test_resm_without_outlier_weights_at_rank_r_over_t_equals_tsvm(
    rows: int, columns: int, n_sources: int, seed: int
) -> None:
    base, deltas = draw((rows, columns), n_sources, seed)
    weights = [0.5 + 0.1 * i for i in range(n_sources)]
    tsvm = merge(METHODS["tsvm"], base, deltas, weights)
    resm = merge(METHODS["resm"], base, deltas, weights, rank_ratio=1 / n_sources)
    assert torch.equal(resm, tsvm)


def test_resm_rank_follows_density() -> None:
    """A tensor of half the peak's density keeps half of r/T; the densest keeps r/T."""
    method = METHODS["resm"]
    params = method.parse({})
    base, deltas = draw((24, 24), n_sources=2)
    assert method.density is not None
    assert method.select is not None
    density = method.density(deltas, params)
    state = method.prepare(base, deltas, params, site("ab"))
    assert method.select(state, Selection(None, density), params)["s"].shape == (2, 12)
    assert method.select(state, Selection(None, 2 * density), params)["s"].shape == (2, 6)
    assert method.select(state, Selection(0.25, 2 * density), params)["s"].shape == (2, 6)


def test_resm_outlier_weights_favour_or_suppress_the_source_with_outliers() -> None:
    share = torch.tensor([0.3, 0.05])
    favour, suppress = outlier_weights(share, "favour"), outlier_weights(share, "suppress")
    assert favour[0] > 1 > favour[1]
    assert suppress[0] < 1 < suppress[1]
    assert torch.equal(outlier_weights(share, "none"), torch.ones(2))
    assert torch.equal(outlier_weights(torch.zeros(2), "favour"), torch.ones(2))
    assert ((favour >= 0.25) & (favour <= 4)).all()


def test_winsorising_limits_the_outlier_alone() -> None:
    delta = torch.full((10, 10), 0.1)
    delta[0, 0] = -50.0
    clipped = winsorise(delta, 3.0)
    assert clipped[0, 0] > -50.0
    assert clipped[0, 0] < 0
    assert torch.equal(clipped[1:], delta[1:])


@pytest.mark.parametrize("outliers", ["favour", "suppress", "clip"])
def test_every_outlier_mode_changes_a_merge_with_outliers(outliers: str) -> None:
    base, deltas = draw((12, 20))
    deltas[0][:, 3] *= 40
    plain = merge(METHODS["resm"], base, deltas, [1.0, 1.0, 1.0])
    changed = merge(METHODS["resm"], base, deltas, [1.0, 1.0, 1.0], outliers=outliers, kappa=2.0)
    assert (plain - changed).abs().max() > 1e-2
