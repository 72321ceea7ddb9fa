"""NuSLERP, multi-SLERP, NearSwap, Arcee Fusion and RAM against their formulas, written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from examples import WEIGHTS, draw, merge
from torch import Tensor

from safemerge.methods import METHODS

SHAPE = (300, 500)  # more than 2^17 entries


def slerp(t: float, first: Tensor, second: Tensor) -> Tensor:
    """Of two vectors, by their unit vectors."""
    cosine = (first / first.norm()) @ (second / second.norm())
    angle = cosine.clamp(-1, 1).acos()
    if angle.sin().abs() < 1e-8:
        return (1 - t) * first + t * second
    return (((1 - t) * angle).sin() * first + (t * angle).sin() * second) / angle.sin()


def by_vector(
    how: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor, flat: bool, by: int
) -> Tensor:
    if flat:
        return how(first.flatten(), second.flatten()).reshape(first.shape)
    pairs = zip(first.unbind(by), second.unbind(by), strict=True)
    return torch.stack([how(*pair) for pair in pairs], dim=by)


@pytest.mark.parametrize("from_base", [True, False])
@pytest.mark.parametrize(("name", "by"), [("nuslerp", 0), ("nuslerp_rows", 0), ("nuslerp_rows", 1)])
def test_nuslerp_walks_along_the_arc_between_two_vectors(
    name: str, by: int, from_base: bool
) -> None:
    base, deltas = draw((30, 50), 2)
    deltas[1, 3] = 2 * deltas[0, 3]  # colinear
    first, second = (deltas if from_base else base + deltas).double()
    found = by_vector(lambda a, b: slerp(0.3, a, b), first, second, name == "nuslerp", by)
    expected = (base + found if from_base else found).float()
    chosen = {"columns": by == 1} if name == "nuslerp_rows" else {}
    merged = merge(METHODS[name], base, deltas, [0.7, 0.3], from_base=from_base, **chosen)
    torch.testing.assert_close(merged, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("from_base", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_multislerp_averages_in_the_tangent_space_of_the_mean(
    from_base: bool, normalize: bool
) -> None:
    base, deltas = draw(SHAPE)
    vectors = (deltas if from_base else base + deltas).double().flatten(1)
    weights = torch.tensor(WEIGHTS).double() * 2
    weights = weights / weights.sum() if normalize else weights
    lengths = vectors.norm(dim=1)
    units = vectors / (lengths[:, None] + 1e-8)
    mean = weights @ units
    mean = mean / mean.norm()
    tangents = units - (units @ mean)[:, None] * mean
    step = weights @ tangents
    size = step.norm() + 1e-8
    found = (mean * size.cos() + step * (size.sin() / size)) * (lengths @ weights)
    expected = (base + found.reshape(SHAPE) if from_base else found.reshape(SHAPE)).float()
    chosen = {"from_base": from_base, "normalize": normalize}
    merged = merge(METHODS["multislerp"], base, deltas, [2 * w for w in WEIGHTS], **chosen)
    torch.testing.assert_close(merged, expected, atol=2e-6, rtol=0)


def test_sources_that_cancel_are_averaged_by_multislerp() -> None:
    base, deltas = draw((6, 8), 1)
    deltas = torch.cat([deltas, -2 * deltas])
    merged = merge(METHODS["multislerp"], base, deltas, [0.5, 0.5])
    torch.testing.assert_close(merged, base - 0.5 * deltas[0], atol=1e-6, rtol=0)


def test_nearswap_moves_by_at_most_t() -> None:
    base, deltas = draw(SHAPE, 1)
    deltas[0, :, :9] *= 1e-6
    merged = merge(METHODS["nearswap"], base, deltas, [1.0], numbers={"t": 1e-2})
    a, b = base, base + deltas[0]
    share = (1e-2 / (a - b).abs().clamp(min=1e-6)).clamp(0, 1)
    torch.testing.assert_close(merged, share * b + (1 - share) * a, atol=1e-6, rtol=0)
    assert (merged - base).abs().max() <= 1e-2 + 1e-6
    assert torch.equal(merge(METHODS["nearswap"], base, deltas, [1.0], numbers={"t": 0.0}), base)


def test_arcee_fusion_takes_the_entries_of_outstanding_importance() -> None:
    base, deltas = draw(SHAPE, 1)
    tuned = base + deltas[0]
    p, q = tuned.softmax(dim=-1) + 1e-8, base.softmax(dim=-1) + 1e-8
    scores = (deltas[0].abs() * (p * (p / q).log()).sum(dim=-1, keepdim=True)).flatten()
    ordered, last = scores.sort().values, scores.numel() - 1
    first, median, third = (ordered[int(share * last)] for share in (0.25, 0.5, 0.75))
    taken = (scores >= median + 1.5 * (third - first)).reshape(SHAPE)
    merged = merge(METHODS["arcee_fusion"], base, deltas, [1.0])
    assert 0.01 < taken.float().mean() < 0.2
    torch.testing.assert_close(merged, base + taken * deltas[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["ram", "ramplus_tl"])
def test_ram_averages_what_is_shared_and_takes_what_is_not(name: str) -> None:
    base, deltas = draw(SHAPE)
    deltas *= torch.rand(deltas.shape, generator=torch.Generator().manual_seed(3)) < 0.4
    changed = deltas.abs() > 1e-5
    count = changed.sum(dim=0)
    factors = torch.ones(3)
    if name == "ramplus_tl":
        shared = (changed & (count > 1)).flatten(1).sum(dim=1)
        alone = (changed & (count == 1)).flatten(1).sum(dim=1)
        factors = 1 + 0.05 * (shared / alone).clamp(max=1.0)
        assert (factors > 1.01).all()
    total = torch.zeros_like(base)
    for delta, own, factor, weight in zip(deltas, changed, factors, WEIGHTS, strict=True):
        total += weight * own * delta * torch.where(count == 1, factor, 1 / count.clamp(min=1))
    chosen = {"r": 0.05, "alpha": 1.0} if name == "ramplus_tl" else {}
    merged = merge(METHODS[name], base, deltas, WEIGHTS, **chosen)
    torch.testing.assert_close(merged, base + total, atol=1e-6, rtol=0)


def test_model_stock_by_rows_has_a_ratio_for_every_row() -> None:
    base, deltas = draw((30, 50))
    stock, rows = METHODS["model_stock"], METHODS["model_stock_rows"]
    expected = torch.stack([merge(stock, base[i], deltas[:, i], WEIGHTS) for i in range(30)])
    merged = merge(rows, base, deltas, WEIGHTS)
    torch.testing.assert_close(merged, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(merge(rows, base[0], deltas[:, 0], WEIGHTS), expected[0])
