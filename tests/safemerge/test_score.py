"""A score is never certain: not of one probe, not of equal values, not from an old file."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from safemerge.score import Score, mean_score


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_score_of_one_probe_has_the_largest_error_that_values_in_0_1_can_have(
    value: float,
) -> None:
    assert mean_score([value]) == Score(value, 0.5, 1)


@pytest.mark.parametrize("stderr", [0.0, math.nan, 1e-9])
def test_files_of_earlier_versions_are_read_without_certainty(stderr: float) -> None:
    record = {name: {"value": 1.0, "stderr": stderr, "n": n} for name, n in (("a", 1), ("b", 16))}
    found = TypeAdapter(dict[str, Score]).validate_python(record)
    assert found == {"a": Score(1.0, 0.5, 1), "b": Score(1.0, 1 / 20, 16)}


@pytest.mark.parametrize(("right", "n"), [(0, 2), (14, 14), (3, 8), (200, 256)])
def test_for_shares_the_error_is_that_of_agresti_and_coull(right: int, n: int) -> None:
    share = (right + 2) / (n + 4)
    found = mean_score([True] * right + [False] * (n - right))
    assert (found.value, found.n) == (right / n, n)
    assert found.stderr == pytest.approx(math.sqrt(share * (1 - share) / (n + 4)))


@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=60))
def test_no_values_are_surer_than_a_score_may_be(values: list[float]) -> None:
    n = len(values)
    found = mean_score(values)
    assert found.stderr >= 1.0 / (n + 4)
    assert Score(found.value, found.stderr, n) == found
    assert found.value == pytest.approx(math.fsum(values) / n)


@pytest.mark.parametrize("n", [4, 10, 30, 100])
def test_two_errors_cover_the_truth_of_skewed_likelihoods(n: int) -> None:
    """Mostly 0.97, one in twelve 0.02, as wanted answers of a model that fails now and then."""
    draws = np.random.default_rng(3)
    truth = 0.97 - 0.95 / 12
    fails = draws.random((3000, n)) < 1 / 12
    found = [mean_score(np.where(row, 0.02, 0.97).tolist()) for row in fails]
    covered = np.mean([abs(one.value - truth) <= 1.96 * one.stderr for one in found])
    assert covered >= 0.92
