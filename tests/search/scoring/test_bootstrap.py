"""Paired bootstrap: what it finds apart, what not, and that pairing counts."""

import numpy as np
import pytest

from search.scoring.bootstrap import mean_difference, paired_differences
from search.scoring.generation import Answer


def answers(*correct: bool, axis: str = "domain") -> list[Answer]:
    return [Answer(f"{axis}{i}", axis, "reply", "comply", flag) for i, flag in enumerate(correct)]


def test_the_same_answers_differ_by_nothing() -> None:
    one = answers(*[True, False] * 20)
    found = paired_differences(one, one)["domain"]
    assert (found.value, found.low, found.high, found.apart) == (0.0, 0.0, 0.0, False)


def test_one_probe_in_forty_is_not_apart_and_twenty_are_both_ways() -> None:
    all_right, one_wrong = answers(*[True] * 40), answers(*[True] * 39, False)
    assert not paired_differences(all_right, one_wrong)["domain"].apart
    half = answers(*[True, False] * 20)
    better, worse = (
        paired_differences(*pair)["domain"] for pair in ((all_right, half), (half, all_right))
    )
    assert better.apart
    assert worse.apart
    assert better.value == -worse.value == 0.5
    assert better.low < 0.5 < better.high


def test_equal_shares_on_other_probes_are_uncertain_and_axes_are_kept_apart() -> None:
    one, other = answers(*[True, False] * 20), answers(*[False, True] * 20)
    found = paired_differences(
        one + answers(True, axis="honest"), other + answers(True, axis="honest")
    )
    assert found["domain"].value == 0.0
    assert found["domain"].high - found["domain"].low > 0.4  # 4 standard errors of sqrt(1/40)
    assert found["honest"].high == 0.0
    assert "harmless" not in found


def test_answers_to_other_probes_are_refused() -> None:
    with pytest.raises(ValueError, match="not to the same probes"):
        paired_differences(answers(True), answers(True, axis="honest"))


def test_intervals_cover_the_truth_in_95_percent_of_simulated_pairs() -> None:
    """2000 pairs of models on 64 probes, whose difficulty both share."""
    draws = np.random.default_rng(7)
    hard = draws.random((2000, 64))
    one = draws.random(hard.shape) < 0.4 + 0.5 * hard
    other = draws.random(hard.shape) < 0.25 + 0.6 * hard
    truth = (0.4 + 0.5 / 2) - (0.25 + 0.6 / 2)
    found = [mean_difference(gains) for gains in one.astype(float) - other]
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.93 <= covered <= 0.97
