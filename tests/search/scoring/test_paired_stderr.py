"""The error of a paired difference: never 0, as stated for shares, and honest with few probes."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.scoring.paired_stderr import paired_stderr


@pytest.mark.parametrize(("gained", "lost", "n"), [(0, 0, 2), (1, 0, 14), (3, 5, 20), (9, 0, 9)])
def test_for_results_that_are_right_or_wrong_it_is_that_of_agresti_and_min(
    gained: int, lost: int, n: int
) -> None:
    b, c, total = gained + 0.5, lost + 0.5, n + 2
    error = sqrt(b + c - (b - c) ** 2 / total) / total
    differences = [1.0] * gained + [-1.0] * lost + [0.0] * (n - gained - lost)
    assert paired_stderr(differences) == pytest.approx(error * total / n)


@given(st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=50))
def test_it_lies_between_the_plain_error_and_the_largest_difference(
    differences: list[float],
) -> None:
    n = len(differences)
    plain = np.std(differences) / sqrt(n)
    assert min(1.0, plain, 1.0 / n) - 1e-12 <= paired_stderr(differences) <= 1.0


def test_one_probe_is_never_more_than_one_error_and_twenty_of_a_hundred_are() -> None:
    for n in (1, 2, 3, 14, 100):
        assert 1.0 / n <= paired_stderr([1.0] + [0.0] * (n - 1))
    assert paired_stderr([0.25]) == 1.0
    assert paired_stderr([1.0] * 20 + [0.0] * 80) < 0.2


def test_a_larger_range_counts_for_more() -> None:
    assert paired_stderr([0.0] * 8, largest=2.0) == pytest.approx(2.0 * paired_stderr([0.0] * 8))
