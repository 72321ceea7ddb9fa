"""Which models are told apart on which axes: by pairs of answers, over all of a table together."""

import numpy as np
import pytest

from search.scoring.generation import Answer
from search.scoring.paired_differences import Difference, paired_differences


def answers(*correct: bool, axis: str = "domain") -> list[Answer]:
    return [Answer(f"{axis}{i}", axis, "reply", "comply", flag) for i, flag in enumerate(correct)]


def difference(one: list[Answer], other: list[Answer], axis: str = "domain") -> Difference:
    return paired_differences({1: one}, other)[1][axis]


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_the_same_answers_are_not_apart_and_not_certainly_alike(n: int) -> None:
    one = answers(*[True, False] * n)[:n]
    found = difference(one, one)
    assert (found.value, found.apart) == (0.0, False)
    assert found.low < 0.0 < found.high


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_few_probes_with_equal_differences_are_not_apart(n: int) -> None:
    found = difference(answers(*[True] * n), answers(*[False] * n))
    assert found.value == 1.0
    assert not found.apart


def test_one_probe_in_forty_is_not_apart_and_twenty_are_both_ways() -> None:
    all_right, one_wrong = answers(*[True] * 40), answers(*[True] * 39, False)
    assert not difference(all_right, one_wrong).apart
    half = answers(*[True, False] * 20)
    better, worse = difference(all_right, half), difference(half, all_right)
    assert better.apart
    assert worse.apart
    assert better.value == -worse.value == 0.5
    assert better.low < 0.5 < better.high


def test_equal_shares_on_other_probes_are_uncertain_and_axes_are_kept_apart() -> None:
    one, other = answers(*[True, False] * 20), answers(*[False, True] * 20)
    found = paired_differences(
        {1: one + answers(True, axis="honest")}, other + answers(True, axis="honest")
    )[1]
    assert found["domain"].value == 0.0
    assert found["domain"].high - found["domain"].low > 0.4  # 4 standard errors of sqrt(1/40)
    assert found["honest"].high > 0.9  # one probe
    assert "harmless" not in found


def test_what_is_apart_alone_need_not_be_among_many() -> None:
    """Six gains and no loss have p = 1/64: apart among one or three comparisons, not among four."""
    base, better = answers(*[False] * 20), answers(*[True] * 6, *[False] * 14)
    for many, apart in ((1, True), (3, True), (4, False)):
        rows = {i: better if i == 0 else base for i in range(many)}
        found = paired_differences(rows, base)
        assert found[0]["domain"].p == pytest.approx(1 / 64)
        assert found[0]["domain"].apart == apart


def test_among_many_models_that_are_alike_all_but_one_table_in_twenty_calls_none_apart() -> None:
    """400 tables of eight models on 64 probes of two axes, all as good as the pick."""
    draws = np.random.default_rng(11)
    wrong = 0
    for _ in range(400):
        hard = draws.random((2, 64))

        def one(hard: np.ndarray = hard) -> list[Answer]:
            right = draws.random(hard.shape) < 0.3 + 0.6 * hard
            domain, honest = right.tolist()
            return answers(*domain) + answers(*honest, axis="honest")

        found = paired_differences({i: one() for i in range(8)}, one())
        wrong += any(d.apart for axes in found.values() for d in axes.values())
    assert wrong / 400 <= 0.05


def test_answers_to_other_probes_are_refused() -> None:
    with pytest.raises(ValueError, match="not to the same probes"):
        difference(answers(True), answers(True, axis="honest"))
