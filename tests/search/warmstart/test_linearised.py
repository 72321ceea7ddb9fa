"""The model of the probe losses: exact at its points, and for linear margins; its minimum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import softplus

from search.warmstart.linearised import (
    Linearisation,
    LinearisedLosses,
    Regularisation,
    TrustRegion,
)


def linearised(at: Tensor, margins: Callable[[Tensor], Tensor]) -> Linearisation:
    """By autograd, from the losses of a function of the weights."""

    def losses(weights: Tensor) -> Tensor:
        return softplus(-margins(weights))

    gradients = torch.autograd.functional.jacobian(losses, at)
    return Linearisation.of_losses(at, losses(at), gradients)


SLOPES = torch.tensor([[1.0, -2.0], [0.5, 0.0], [0.0, 3.0]])


def straight(weights: Tensor) -> Tensor:
    return weights @ SLOPES.T + torch.tensor([0.3, -1.0, 0.0])


def bent(weights: Tensor) -> Tensor:
    return straight(weights) + torch.sin(2.0 * weights).sum()


@given(st.floats(1e-5, 60.0))
def test_a_margin_is_the_log_odds_of_its_loss(loss: float) -> None:
    point = Linearisation.of_losses(torch.zeros(1), torch.tensor([loss]), torch.ones(1, 1))
    assert softplus(-point.margins).item() == pytest.approx(loss, rel=1e-3)
    assert point.slopes.item() == pytest.approx(1.0 / math.expm1(-loss), rel=1e-3)


def test_an_answer_for_certain_has_a_finite_margin() -> None:
    point = Linearisation.of_losses(torch.zeros(1), torch.zeros(1), torch.zeros(1, 1))
    assert point.margins.isfinite().all()
    assert point.slopes.isfinite().all()


def test_linear_margins_are_met_everywhere_from_any_points() -> None:
    model = LinearisedLosses(["a", "a", "b"])
    for at in ([0.2, 0.1], [1.0, -1.0]):
        model.add(linearised(torch.tensor(at), straight))
    asked = torch.tensor([[0.0, 0.0], [2.0, 1.0], [0.2, 0.1]])
    torch.testing.assert_close(model.margins(asked), straight(asked), atol=1e-4, rtol=1e-4)


def test_the_model_is_exact_at_each_of_its_points() -> None:
    model = LinearisedLosses(["a", "a", "b"])
    points = [torch.tensor(at) for at in ([0.2, 0.1], [1.0, -1.0], [2.0, 0.5])]
    for at in points:
        model.add(linearised(at, bent))
    for at in points:
        torch.testing.assert_close(model.margins(at), bent(at), atol=1e-3, rtol=1e-3)


def test_a_second_point_brings_the_model_nearer_around_it() -> None:
    one, two = LinearisedLosses(["a", "a", "b"]), LinearisedLosses(["a", "a", "b"])
    for model, points in ((one, [[0.0, 0.0]]), (two, [[0.0, 0.0], [1.0, 1.0]])):
        for at in points:
            model.add(linearised(torch.tensor(at), bent))
    asked = torch.tensor([0.9, 0.9])
    error = [(model.margins(asked) - bent(asked)).abs().sum() for model in (one, two)]
    assert error[1] < 0.2 * error[0]


def test_a_scalarization_weighs_the_mean_of_its_axis() -> None:
    model = LinearisedLosses(["a", "b", "a"])
    margins = torch.tensor([0.0, 1.0, 2.0])
    losses = 3.0 * softplus(-margins / 3.0)  # at temperature 3
    expected = 3.0 * losses[[0, 2]].mean() + 0.5 * losses[1]
    torch.testing.assert_close(model.loss(margins, {"a": 3.0, "b": 0.5}), expected)


def minimum(model: LinearisedLosses, **changes: Any) -> Tensor:
    region = TrustRegion(torch.zeros(2), radius=0.5, bounds=(-9.0, 9.0))
    regular = Regularisation(torch.zeros(2), prior_l2=0.0, weight_noise_std=0.0, seed=0)
    of_region = {key: changes[key] for key in changes.keys() & {"centre", "bounds"}}
    others = {key: changes[key] for key in changes.keys() - of_region.keys()}
    return model.minimise({"a": 1.0}, replace(region, **of_region), replace(regular, **others))


@pytest.fixture
def rising() -> LinearisedLosses:
    """One group whose margin rises with the first weight alone."""
    model = LinearisedLosses(["a"])
    model.add(linearised(torch.zeros(2), lambda weights: weights[:1]))
    return model


def test_the_minimum_lies_where_the_box_ends(rising: LinearisedLosses) -> None:
    expected = torch.tensor([0.5, 0.0])
    torch.testing.assert_close(minimum(rising), expected, atol=2e-3, rtol=0.0)


def test_a_weight_that_no_probe_asks_to_move_stays(rising: LinearisedLosses) -> None:
    assert minimum(rising, centre=torch.tensor([0.0, 0.7]))[1].item() == pytest.approx(0.7)


def test_the_minimum_stays_within_the_bounds(rising: LinearisedLosses) -> None:
    assert minimum(rising, bounds=(-0.1, 0.1))[0].item() == pytest.approx(0.1)


def test_the_penalty_settles_where_it_balances_the_slope(rising: LinearisedLosses) -> None:
    """Of 3 softplus(-w / 3) + l2 w^2 / 2, a mean of two weights: l2 w = sigmoid(-w / 3)."""
    found = minimum(rising, prior_l2=4.0)[0].item()
    assert 4.0 * found == pytest.approx(torch.sigmoid(torch.tensor(-found / 3)).item(), abs=0.02)


def test_noise_keeps_away_from_large_weights(rising: LinearisedLosses) -> None:
    """Under noise of more than a weight's own size, its loss grows with it."""
    centre = torch.tensor([1.0, 0.0])
    plain, noisy = (
        minimum(rising, centre=centre, weight_noise_std=noise)[0].item() for noise in (0.0, 9.0)
    )
    assert plain == pytest.approx(1.5)
    assert noisy < 1.0
