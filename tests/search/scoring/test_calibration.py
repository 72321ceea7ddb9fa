"""The map from likelihoods to rates: monotone, right where the truth is known, with its error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemerge.score import Score, mean_score
from search.scoring.calibration import (
    LEAST_MODELS,
    AnsweredModel,
    RateMap,
    fit_rate_map,
    with_replies,
)

N = 32  # replies of a model


def likelihood(value: float, n: int = 100) -> Score:
    return Score(value, 0.02, n)


def answered(value: float, right: int, n: int = N) -> AnsweredModel:
    return AnsweredModel(likelihood(value), mean_score([1.0] * right + [0.0] * (n - right)))


def fitted(*models: AnsweredModel) -> RateMap:
    found = fit_rate_map(models)
    assert found is not None
    return found


def truth(offset: float, slope: float, score: float) -> float:
    return 1.0 / (1.0 + np.exp(-offset) * ((1.0 - score) / score) ** slope)


shares = st.integers(0, 10**6).map(lambda count: count / 10**6)
models = st.builds(answered, shares, st.integers(0, N))


@given(st.lists(models, min_size=LEAST_MODELS, max_size=12))
def test_a_higher_likelihood_never_means_a_lower_rate(drawn: list[AnsweredModel]) -> None:
    found = fit_rate_map(drawn)
    if found is None:
        assert len({model.likelihood.value for model in drawn}) == 1
        return
    scores = [found.rate(likelihood(value)) for value in np.linspace(0.0, 1.0, 21)]
    values = [score.value for score in scores]
    assert values == sorted(values)
    assert all(0.0 <= score.value <= 1.0 and 0.0 < score.stderr <= 0.5 for score in scores)


@pytest.mark.parametrize(("offset", "slope"), [(0.0, 1.0), (-6.0, 2.7), (-2.0, 0.6)])
def test_a_known_curve_is_found_again(offset: float, slope: float) -> None:
    rng = np.random.default_rng(1)
    drawn = [
        answered(x, rng.binomial(2000, truth(offset, slope, x)), 2000)
        for x in rng.uniform(0.2, 0.98, 20)
    ]
    found = fitted(*drawn)
    for x in (0.3, 0.6, 0.9):
        assert found.rate(likelihood(x)).value == pytest.approx(truth(offset, slope, x), abs=0.02)


@pytest.mark.parametrize("scatter", [0.0, 0.5])
@pytest.mark.parametrize("count", [6, 12])
def test_intervals_cover_the_true_rates_of_models_that_did_not_reply(
    count: int, scatter: float
) -> None:
    """Models that scatter around the curve too, by half a unit of the logit."""
    rng = np.random.default_rng(2)
    inside = []
    for _ in range(40):
        x = rng.uniform(0.3, 0.98, count + 10)
        rate = 1.0 / (
            1.0 + np.exp(6.0 - 2.7 * np.log(x / (1 - x)) + scatter * rng.normal(size=x.size))
        )
        found = fitted(*(answered(x[i], rng.binomial(N, rate[i])) for i in range(count)))
        for i in range(count, count + 10):
            score = found.rate(likelihood(x[i]))
            inside.append(abs(score.value - rate[i]) <= 1.645 * score.stderr)
    assert np.mean(inside) >= 0.9


def test_few_models_or_one_score_give_no_map() -> None:
    several = [answered(0.2 + 0.1 * i, 4 * i) for i in range(LEAST_MODELS)]
    assert fit_rate_map(several[:-1]) is None
    assert fit_rate_map(several) is not None
    assert fit_rate_map([answered(0.5, right) for right in range(10)]) is None


def test_rates_of_all_or_nothing_have_a_finite_map() -> None:
    found = fitted(*(answered(x, 0 if x < 0.5 else N) for x in (0.1, 0.3, 0.6, 0.9)))
    assert found.rate(likelihood(0.1)).value < 0.1
    assert found.rate(likelihood(0.9)).value > 0.9
    assert found.rate(likelihood(0.45)).stderr > found.rate(likelihood(0.9)).stderr


def test_scatter_that_chance_does_not_explain_widens_the_error() -> None:
    shares = (0.2, 0.4, 0.6, 0.8)
    on_it = fitted(*(answered(x, round(N * x)) for x in shares * 2))
    apart = fitted(*(answered(x, round(N * x + d)) for d in (-6, 6) for x in shares))
    at = likelihood(0.5)
    assert (on_it.dispersion, apart.dispersion > 2.0) == (1.0, True)
    assert apart.rate(at).stderr > 1.4 * on_it.rate(at).stderr


def test_own_replies_move_an_estimate_by_what_is_surer() -> None:
    found = with_replies(Score(0.9, 0.05, 26), Score(0.8, 0.1, 26))
    assert found.value == pytest.approx(0.88)
    assert found.stderr == pytest.approx(0.05 / 1.25**0.5)


def test_a_false_over_refusal_is_corrected() -> None:
    """The real ground: by likelihood the base over-refuses 60 %, merges 95 to 100 %; of the replies
    0 to 12 % refused."""
    found = fitted(
        answered(0.60, 0, 25),
        answered(0.95, 1, 25),
        answered(0.96, 0, 25),
        answered(1.00, 3, 25),
        answered(0.99, 1, 25),
    )
    assert found.rate(likelihood(0.60)).value < 0.03
    assert 0.02 < found.rate(likelihood(1.0)).value < 0.2
