"""Every method that works in blocks, thresholds or inner products, against its formula written out.

The plain forms take whole tensors, sorts and masks. The tensors have more entries than a block or
than what is sorted outright. Spectral methods have their twins in files of their own.
"""

from __future__ import annotations

import math

import pytest
import torch
from examples import WEIGHTS, draw, merge, site
from torch import Tensor

from safemerge.methods import METHODS
from safemerge.methods.common.draws import keep_by_rank, keep_evenly, probability
from safemerge.methods.common.importance_order import POSITIONS, positions
from safemerge.methods.common.threshold import keep_window
from safemerge.methods.common.weighted_sum import add_deltas

SHAPE = (300, 500)  # more than 2^17 entries
NAMES = "abc"
TRIMS = ["ties", "breadcrumbs", "breadcrumbs_ties"]
DROPS = ["dare_linear", "dare_ties", "della_linear", "della"]
RESCALED = [(name, rescale) for name in TRIMS + DROPS for rescale in ("none", "l1")]
RESCALED += [(name, "inverse_density") for name in DROPS]


def trimmed(name: str, delta: Tensor, numbers: dict[str, float]) -> Tensor:
    """By a full sort: the `density` largest entries, less the `gamma` largest of Breadcrumbs."""
    order = delta.abs().flatten().argsort()
    kept = int(numbers["density"] * len(order))
    top = 0 if name == "ties" else int(numbers["gamma"] * len(order))
    mask = torch.zeros(len(order))
    mask[order[len(order) - kept - top : len(order) - top]] = 1.0
    return delta * mask.reshape(delta.shape)


def dropped(name: str, deltas: Tensor, numbers: dict[str, float], seed: int) -> Tensor:
    """K_i D_i, with the masks that the names of tensor and source draw."""
    seeds = [site(NAMES).seed(seed, source) for source in NAMES]
    density, epsilon = numbers["density"], numbers.get("epsilon", 0.0)
    if name.startswith("dare"):
        masks = [keep_evenly(s, density, delta) for s, delta in zip(seeds, deltas, strict=True)]
    else:
        masks = [
            keep_by_rank(s, density, epsilon, delta) for s, delta in zip(seeds, deltas, strict=True)
        ]
    return deltas * torch.stack(masks)


def combined(kept: Tensor, factors: Tensor, consensus: bool, normalize: bool) -> Tensor:
    """Sum of w_i f_i D'_i, or of those that agree with the elected sign, by sum of w_i."""
    weights = torch.tensor(WEIGHTS)[:, None, None]
    weighted = weights * factors[:, None, None] * kept
    if not consensus:
        return weighted.sum(dim=0) / (weights.sum() if normalize else 1.0)
    sign = torch.where(weighted.sum(dim=0) >= 0, 1.0, -1.0)
    agrees = weighted.sign() == sign
    total = (weighted * agrees).sum(dim=0)
    divisor = (weights * agrees).sum(dim=0)
    return torch.where(divisor == 0, total, total / divisor) if normalize else total


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("name", "rescale"), RESCALED)
def test_a_part_of_every_delta_is_kept_rescaled_and_merged(
    name: str, rescale: str, normalize: bool
) -> None:
    base, deltas = draw(SHAPE)
    numbers = {"density": 0.3, "gamma": 0.05, "epsilon": 0.2}
    numbers = {key: numbers[key] for key in METHODS[name].per_source}
    if name in TRIMS:
        kept = torch.stack([trimmed(name, delta, numbers) for delta in deltas])
        chosen: dict[str, object] = {}
    else:
        kept, chosen = dropped(name, deltas, numbers, 7), {"seed": 7}
    factors = torch.ones(3)
    if rescale == "l1":
        factors = deltas.abs().sum(dim=(1, 2)) / kept.abs().sum(dim=(1, 2))
    elif rescale == "inverse_density":
        factors = torch.full((3,), 1 / probability(numbers["density"]))
    consensus = name.endswith("_ties") or name in ("ties", "della")
    expected = base + 0.9 * combined(kept, factors, consensus, normalize)
    chosen |= {"scale": 0.9, "rescale": rescale, "normalize": normalize}
    found = merge(METHODS[name], base, deltas, WEIGHTS, numbers=numbers, **chosen)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


def sce_of_the_formula(deltas: Tensor, density: float) -> Tensor:
    variance = ((deltas - deltas.mean(dim=0)) ** 2).mean(dim=0)
    count = int(density * int((variance != 0).sum()))
    selected = deltas * (variance >= variance.flatten().sort(descending=True).values[count - 1])
    e = (selected**2).sum(dim=(1, 2))
    e = (e / e.sum())[:, None, None]
    weighted = torch.tensor(WEIGHTS)[:, None, None] * selected
    agrees = weighted.sign() == torch.where(weighted.sum(dim=0) >= 0, 1.0, -1.0)
    divisor = (e * agrees).sum(dim=0)
    return (e * weighted * agrees).sum(dim=0) / torch.where(divisor == 0, 1.0, divisor)


@pytest.mark.parametrize("density", [0.2, 0.7])
def test_sce_is_its_formula(density: float) -> None:
    base, deltas = draw(SHAPE)
    found = merge(METHODS["sce"], base, deltas, WEIGHTS, numbers={"density": density})
    expected = base + sce_of_the_formula(deltas, density)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


def test_model_stock_is_its_formula() -> None:
    base, deltas = draw(SHAPE)
    deltas = deltas + 0.1 * deltas[:1]
    units = [delta.flatten().double() / delta.double().norm() for delta in deltas]
    cos = sum(float(units[i] @ units[j]) for i, j in ((0, 1), (0, 2), (1, 2))) / 3
    t = 3 * cos / (1 + 2 * cos)
    weighted = sum(weight * delta for weight, delta in zip(WEIGHTS, deltas, strict=True))
    found = merge(METHODS["model_stock"], base, deltas, WEIGHTS)
    torch.testing.assert_close(found, base + t / 3 * weighted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("t", [0.2, 0.5])
def test_slerp_is_its_formula(t: float) -> None:
    base, deltas = draw(SHAPE, 2)
    one, two = (base + delta for delta in deltas.double())
    omega = torch.acos((one * two).sum() / (one.norm() * two.norm()))
    assert math.cos(omega) < 0.9995  # beyond it sources are interpolated linearly
    expected = (((1 - t) * omega).sin() * one + (t * omega).sin() * two) / omega.sin()
    found = merge(METHODS["slerp"], base, deltas, [1 - t, t])
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=0)


def test_a_sum_is_the_same_with_and_without_a_gradient() -> None:
    base, deltas = draw(SHAPE)
    coefficients = torch.tensor([0.7, 0.5, 0.0, -0.2])
    expected = 0.7 * base + 0.5 * deltas[0] - 0.2 * deltas[2]
    params = METHODS["task_arithmetic"].parse({})
    for given in (coefficients, coefficients.clone().requires_grad_()):
        found = add_deltas(base, {"deltas": deltas}, given, params)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("low", "high"), [(0.0, math.inf), (0.05, 0.2), (0.1, math.inf)])
def test_a_window_is_a_mask(low: float, high: float) -> None:
    _, deltas = draw(SHAPE)
    size = deltas.abs()
    plain = torch.where((size >= low) & (size <= high), deltas, 0.0)
    found = keep_window(deltas, torch.tensor([low] * 3), torch.tensor([high] * 3))
    assert torch.equal(found, plain)


def test_a_position_is_the_share_of_entries_before_it() -> None:
    """More important ones, and, but for the entry itself, those that are as important."""
    values = torch.randint(0, 9, (40,), generator=torch.Generator().manual_seed(0)).float()
    for value, found in zip(values.tolist(), positions(values).tolist(), strict=True):
        before = sum(other >= value for other in values.tolist()) - 1
        assert found == before * POSITIONS // 40
