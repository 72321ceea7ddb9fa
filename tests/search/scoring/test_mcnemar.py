"""Paired shares at small n: what the test and the interval say, and that both hold as stated."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from search.scoring.mcnemar import compare_shares


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 40])
def test_models_that_never_differ_are_alike_within_an_interval_that_has_a_width(n: int) -> None:
    found = compare_shares(0, 0, n)
    assert found.p == 1.0
    assert found.low == -found.high
    assert found.high > 1.0 / n / 2


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_few_probes_never_tell_models_apart_however_equal_their_differences(n: int) -> None:
    assert compare_shares(n, 0, n).p > 0.05


@given(st.integers(0, 30), st.integers(0, 30))
def test_p_lies_between_the_exact_test_and_the_exact_test_without_its_last_point(
    gained: int, lost: int
) -> None:
    found = compare_shares(gained, lost, 60)
    if gained == lost:
        assert found.p == 1.0
        return
    differ = gained + lost
    exact = binomtest(gained, differ).pvalue
    assert found.p == pytest.approx(exact - binom.pmf(gained, differ, 0.5))
    assert -1.0 <= found.low < (gained - lost) / 60 < found.high <= 1.0
    mirrored = compare_shares(lost, gained, 60)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    assert mirrored.p == found.p


@pytest.mark.parametrize("n", [3, 10, 25, 64])
@pytest.mark.parametrize(("gain", "loss"), [(0.02, 0.02), (0.2, 0.2), (0.3, 0.05), (0.6, 0.1)])
def test_the_interval_covers_and_the_test_errs_as_stated(gain: float, loss: float, n: int) -> None:
    """1,500 pairs of models that differ on these shares of all probes."""
    draws = np.random.default_rng(5)
    counts = draws.multinomial(n, [gain, loss, 1.0 - gain - loss], size=1500)
    found = [compare_shares(int(gained), int(lost), n) for gained, lost, _ in counts]
    covered = np.mean([one.low <= gain - loss <= one.high for one in found])
    assert covered >= 0.925
    if gain == loss:
        assert np.mean([one.p <= 0.05 for one in found]) <= 0.06
