"""RESM: outlier weights and ranks by hand, and what becomes of TSV-M without them.

The example is a matrix of one row, two sources, and kappa = 1:

    D_1 = (1, 1, 1, -9): column masses 1, 1, 1, 9; mean 3, squared deviations 4 + 4 + 4 + 36 = 48,
          std = sqrt(48 / 3) = 4. 9 > 3 + 4, so the last column is an outlier: q_1 = 9 / 12 = 3/4.
    D_2 = (3, 3, 3, -7): mean 4, squared deviations 1 + 1 + 1 + 9 = 12, std = 2. 7 > 4 + 2, so
          q_2 = 7 / 16.
"""

import pytest
import torch
from examples import draw, merge, site
from hypothesis import given, settings
from hypothesis import strategies as st

from safemerge.methods import METHODS, Selection
from safemerge.methods.resm import density_rank, outlier_share, outlier_weights, winsorise

DELTAS = torch.tensor([[[1.0, 1.0, 1.0, -9.0]], [[3.0, 3.0, 3.0, -7.0]]])
# favour: q + eps = 0.751 and 0.4385, their sum 1.1895. suppress: 1 / (q + eps) = 1 / 0.751 and
# 1 / 0.4385, so the two numbers change places.
FAVOUR = [2 * 0.751 / 1.1895, 2 * 0.4385 / 1.1895]
WEIGHTS_BY_HAND = {
    "none": [1.0, 1.0],
    "favour": FAVOUR,
    "suppress": FAVOUR[::-1],
    "clip": [1.0, 1.0],
}
# clip: |D| at most mean + std of the entries, 3 + 4 and 4 + 2.
CLIPPED = torch.tensor([[[1.0, 1.0, 1.0, -7.0]], [[3.0, 3.0, 3.0, -6.0]]])


def test_outlier_shares_by_hand() -> None:
    masses = DELTAS.abs().sum(dim=1)
    assert [outlier_share(mass, 1.0).item() for mass in masses] == [0.75, 0.4375]
    assert outlier_share(masses[0], 1.5).item() == 0.0  # 9 is not above 3 + 1.5 * 4


@pytest.mark.parametrize("mode", WEIGHTS_BY_HAND)
def test_outlier_weights_by_hand(mode: str) -> None:
    found = outlier_weights(torch.tensor([0.75, 0.4375]), mode)
    torch.testing.assert_close(found, torch.tensor(WEIGHTS_BY_HAND[mode]))


def test_outlier_weights_stay_in_their_range() -> None:
    """favour, shares 0 and 0.9: 2 * 0.001 / 0.902 = 0.002 and 1.998. Five sources, shares 0.9 and
    four times 0: 5 * 0.901 / 0.905 = 4.98 and 0.006."""
    two = outlier_weights(torch.tensor([0.0, 0.9]), "favour")
    torch.testing.assert_close(two, torch.tensor([0.25, 1.802 / 0.902]))
    five = outlier_weights(torch.tensor([0.9, 0.0, 0.0, 0.0, 0.0]), "favour")
    torch.testing.assert_close(five, torch.tensor([4.0, 0.25, 0.25, 0.25, 0.25]))


@pytest.mark.parametrize("mode", WEIGHTS_BY_HAND)
def test_a_merge_is_tsvm_with_the_weights_or_the_clipping_done_by_hand(mode: str) -> None:
    base = torch.zeros(1, 4)
    found = merge(METHODS["resm"], base, DELTAS, [0.5, 0.3], 1.0, outliers=mode, kappa=1.0)
    weights = [w * by for w, by in zip([0.5, 0.3], WEIGHTS_BY_HAND[mode], strict=True)]
    deltas = CLIPPED if mode == "clip" else DELTAS
    expected = merge(METHODS["tsvm"], base, deltas, weights, 1.0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_density_by_hand() -> None:
    """Squares 84 + 76 = 160 over 8 entries: rms = sqrt(20) = 4.47. At tau = 0.5 entries above 2.24
    are present: one of D_1, all four of D_2. At tau = 1: the last one of each."""
    method = METHODS["resm"]
    assert method.measure is not None
    assert method.measure(DELTAS, method.parse({"tau": 0.5}), site("ab")).density == 5 / 8
    assert method.measure(DELTAS, method.parse({"tau": 1.0}), site("ab")).density == 2 / 8


@pytest.mark.parametrize(
    ("rank", "n_sources", "relative_density", "kept"),
    [
        (24, 2, 1.0, 12),  # floor(24 / 2)
        (24, 2, 0.5, 6),  # floor(12 * 0.5)
        (24, 2, 0.6, 7),  # floor(7.2)
        (24, 2, 0.01, 1),  # floor(0.12) = 0; at least 1
        (300, 3, 0.001, 3),  # floor(0.1) = 0; at least a hundredth of 300
        (5, 9, 1.0, 1),  # floor(5 / 9) = 0; at least 1
    ],
)
def test_ranks_by_hand(rank: int, n_sources: int, relative_density: float, kept: int) -> None:
    assert density_rank(rank, n_sources, relative_density) == kept


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
    assert method.measure is not None
    assert method.select is not None
    density = method.measure(deltas, params, site("ab")).density
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


def test_r_tsvm_is_resm_that_suppresses_outliers() -> None:
    base, deltas = draw((8, 12))
    deltas[0, :, 3] *= 40
    weights = [1.0, 0.7, 0.5]
    suppressed = merge(METHODS["resm"], base, deltas, weights, outliers="suppress", kappa=2.0)
    assert torch.equal(merge(METHODS["r_tsvm"], base, deltas, weights, kappa=2.0), suppressed)
    assert not torch.equal(suppressed, merge(METHODS["resm"], base, deltas, weights, kappa=2.0))
