"""What is special to the entry-wise methods and the linear family, against plain forms of each."""

from __future__ import annotations

import math

import pytest
import torch
from examples import draw, merge
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from safemerge.errors import RecipeError
from safemerge.methods import METHODS
from safemerge.methods.common.weighted_sum import gram
from safemerge.methods.model_stock import interpolation_ratio

WEIGHTS = [0.5, 0.3, 0.4]


def merged_delta(
    name: str, deltas: Tensor, weights: list[float], numbers: dict[str, float], **params: object
) -> Tensor:
    base = torch.zeros(deltas.shape[1:])
    return merge(METHODS[name], base, deltas, weights, numbers=numbers, **params)


# ---- what is kept ----------------------------------------------------------------------------


@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
    density=st.floats(0.0, 1.0),
    gamma=st.floats(0.0, 1.0),
)
@settings(max_examples=60)
def test_trimming_keeps_the_entries_that_a_sort_would(
    rows: int, columns: int, density: float, gamma: float
) -> None:
    """Magnitudes here are 1, 2, ..., n, so what is kept can be counted off."""
    count = rows * columns
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(rows)) + 1.0
    delta = shuffled.reshape(1, rows, columns)
    kept = merged_delta("ties", delta, [1.0], {"density": density})
    n_kept = min(count, max(1, int(density * count))) if density > 0 else 0
    assert sorted(kept[kept != 0].tolist()) == list(range(count - n_kept + 1, count + 1))

    kept = merged_delta("breadcrumbs", delta, [1.0], {"density": density, "gamma": gamma})
    n_kept = int(density * count)
    below = max(0, count - n_kept - int(gamma * count))
    expected = range(1, count + 1) if density >= 1 else range(below + 1, below + n_kept + 1)
    assert sorted(kept[kept != 0].tolist()) == list(expected)


@pytest.mark.parametrize("name", ["ties", "breadcrumbs"])
def test_entries_of_equal_size_are_kept_or_dropped_together(name: str) -> None:
    """Half of these entries are as large as the smallest that is kept."""
    delta = torch.tensor([[[3.0, -1.0, 1.0, 1.0, -1.0, 0.5, 0.5, 0.5]]])
    kept = merged_delta(name, delta, [1.0], {"density": 0.25, "gamma": 0.0})
    assert kept.tolist() == [[3.0, -1.0, 1.0, 1.0, -1.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties", "della_linear", "della"])
def test_rescaled_by_density_the_mean_delta_is_the_delta(name: str) -> None:
    delta = torch.full((1, 500, 400), 0.1)
    numbers = {"density": 0.25, "epsilon": 0.0}
    merged = merged_delta(name, delta, [1.0], numbers, normalize=False)
    assert merged.unique().tolist() == pytest.approx([0.0, 0.4])
    assert abs(merged.mean() - 0.1) < 0.1 * 5 * math.sqrt(3 / delta.numel())


@pytest.mark.parametrize(
    "name",
    [
        "ties",
        "breadcrumbs",
        "breadcrumbs_ties",
        "dare_linear",
        "dare_ties",
        "della_linear",
        "della",
    ],
)
def test_rescaled_by_l1_what_is_kept_is_as_long_as_the_delta(name: str) -> None:
    _, deltas = draw((60, 50), 1)
    merged = merged_delta(name, deltas, [1.0], {"density": 0.3}, rescale="l1", normalize=False)
    plain = merged_delta(name, deltas, [1.0], {"density": 0.3}, rescale="none", normalize=False)
    assert merged.abs().sum() == pytest.approx(deltas.abs().sum().item(), rel=1e-5)
    assert plain.abs().sum() < 0.8 * merged.abs().sum()
    assert torch.equal(merged != 0, plain != 0)


def test_two_sources_are_dropped_independently() -> None:
    deltas = torch.ones(2, 300, 300)
    merged = merged_delta("dare_linear", deltas, [1.0, 1.0], {"density": 0.5}, rescale="none")
    shares = [(merged == value).double().mean().item() for value in (0.0, 1.0, 2.0)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.02)


# ---- consensus -------------------------------------------------------------------------------


def consensus_entry(kept: list[float], weights: list[float], normalize: bool) -> float:
    """One entry, the plain way."""
    weighted = [w * k for w, k in zip(weights, kept, strict=True)]
    sign = 1.0 if sum(weighted) >= 0 else -1.0
    agreeing = [i for i, x in enumerate(weighted) if x * sign > 0]
    total = sum((weighted[i] for i in agreeing), 0.0)
    divisor = sum(weights[i] for i in agreeing)
    return total / divisor if normalize and divisor != 0 else total


# Sixteenths: sums are exact, so that ties between signs are real ones.
sixteenths = st.integers(-32, 32).map(lambda n: n / 16)


@given(
    kept=st.lists(st.lists(sixteenths, min_size=3, max_size=3), min_size=1, max_size=8),
    weights=st.lists(sixteenths, min_size=3, max_size=3),
    normalize=st.booleans(),
)
@settings(max_examples=100)
def test_the_consensus_of_an_entry_is_that_of_the_plain_way(
    kept: list[list[float]], weights: list[float], normalize: bool
) -> None:
    entries = torch.tensor(kept).T
    numbers = {"density": 1.0}
    merged = merged_delta("ties", entries, weights, numbers, normalize=normalize)
    expected = [consensus_entry(entry, weights, normalize) for entry in kept]
    torch.testing.assert_close(merged, torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_a_sum_of_weights_that_is_zero_divides_nothing() -> None:
    _, deltas = draw((4, 5), 2)
    for name in ("breadcrumbs", "dare_linear", "della_linear"):
        numbers = {"density": 1.0}
        one = merged_delta(name, deltas, [0.5, -0.5], numbers, normalize=True)
        other = merged_delta(name, deltas, [0.5, -0.5], numbers, normalize=False)
        assert torch.equal(one, other)


def test_sce_selects_where_sources_differ_and_weights_them_by_it() -> None:
    deltas = torch.tensor([[1.0, 4.0, 0.5, -3.0], [1.0, 2.0, 0.5, 1.0]]).reshape(2, 1, 4)
    merged = merged_delta("sce", deltas, [1.0, 1.0], {"density": 1.0})
    squares = deltas.square().sum(dim=(1, 2))
    e = (squares / squares.sum()).tolist()
    # In the last entry the first source has the majority, and the second does not agree.
    expected = [1.0, 4 * e[0] + 2 * e[1], 0.5, -3.0]
    torch.testing.assert_close(merged, torch.tensor([expected]))
    # Two entries have a variance; half of them is the last.
    merged = merged_delta("sce", deltas, [1.0, 1.0], {"density": 0.5})
    torch.testing.assert_close(merged, torch.tensor([[0.0, 0.0, 0.0, -3.0]]))


# ---- linear family ---------------------------------------------------------------------------


def test_linear_without_normalising_takes_the_weights_as_they_are() -> None:
    base, deltas = draw((4, 5), 2)
    merged = merge(METHODS["linear"], base, deltas, [0.5, 0.25], normalize=False)
    expected = 0.5 * (base + deltas[0]) + 0.25 * (base + deltas[1])
    torch.testing.assert_close(merged, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["linear", "slerp", "karcher"])
def test_averages_refuse_weights_without_a_positive_sum(name: str) -> None:
    base, deltas = draw((4, 5), 2)
    with pytest.raises(RecipeError, match=rf"'{name}' averages .* \[0.5, -1.0\] is not positive"):
        merge(METHODS[name], base, deltas, [0.5, -1.0])


def test_model_stock_goes_as_far_as_the_deltas_agree() -> None:
    base, deltas = draw((4, 5), 1)
    alike = deltas.expand(3, -1, -1)
    merged = merge(METHODS["model_stock"], base, alike, [1.0] * 3)
    torch.testing.assert_close(merged, base + deltas[0], atol=1e-6, rtol=0)
    apart = torch.eye(3).reshape(3, 1, 3)
    assert torch.equal(merge(METHODS["model_stock"], base[:1, :3], apart, [1.0] * 3), base[:1, :3])


@pytest.mark.parametrize("count", [2, 3, 4])
def test_model_stock_stays_at_the_base_where_deltas_cancel(count: int) -> None:
    """At a mean cosine of -1 / (T - 1) the formula divides by zero."""
    simplex = torch.eye(count, dtype=torch.float64) - 1 / count
    assert interpolation_ratio(simplex @ simplex.T).item() == 0.0


ANGLES = [0.3, 1.1]


def on_circle(*angles: float) -> tuple[Tensor, Tensor]:
    """A base at angle 0, and deltas to sources at other angles, on the unit circle."""
    points = torch.tensor([[[math.cos(angle), math.sin(angle)]] for angle in (0.0, *angles)])
    return points[0], points[1:] - points[0]


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 1.0, 1.5])
def test_slerp_turns_by_its_share_of_the_angle(t: float) -> None:
    merged = merge(METHODS["slerp"], *on_circle(*ANGLES), [2 * (1 - t), 2 * t])
    angle = ANGLES[0] + t * (ANGLES[1] - ANGLES[0])
    expected = torch.tensor([[math.cos(angle), math.sin(angle)]])
    torch.testing.assert_close(merged, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("second", [0.31, 0.3, 0.3 + math.pi])
def test_slerp_of_parallel_sources_is_their_line(second: float) -> None:
    base, deltas = on_circle(0.3, second)
    merged = merge(METHODS["slerp"], base, deltas, [0.75, 0.25])
    expected = base + 0.75 * deltas[0] + 0.25 * deltas[1]
    torch.testing.assert_close(merged, expected, atol=1e-6, rtol=0)


def karcher_on_tensors(sources: Tensor, weights: Tensor, steps: int) -> Tensor:
    """The iteration as it is written down, on whole tensors (n_sources, entries), float64."""
    lengths = sources.norm(dim=1)
    units, share = sources / lengths[:, None], weights / weights.sum()
    mean = share @ units
    mean = mean / mean.norm()
    for _ in range(steps):
        dot = (units @ mean).clamp(-1, 1)
        pull = share * dot.acos() / (1 - dot**2).sqrt()
        tangent = pull @ (units - dot[:, None] * mean)
        length = tangent.norm()
        mean = length.cos() * mean + length.sin() * tangent / length
    return (share @ lengths) * mean


@given(seed=st.integers(0, 99), count=st.integers(2, 5), size=st.sampled_from([0.1, 1.0, 5.0]))
@settings(max_examples=30)
def test_karcher_in_the_gram_matrix_equals_the_iteration_on_tensors(
    seed: int, count: int, size: float
) -> None:
    base, deltas = draw((6, 7), count, seed)
    deltas = size * deltas
    weights = [0.5 + i for i in range(count)]
    merged = merge(METHODS["karcher"], base, deltas, weights, max_iter=50, tol=1e-7)
    sources = (base + deltas).reshape(count, -1).double()
    expected = karcher_on_tensors(sources, torch.tensor(weights).double(), 8)
    torch.testing.assert_close(merged.reshape(-1), expected.float(), atol=1e-5, rtol=0)


def test_karcher_leaves_out_what_has_no_direction() -> None:
    base, deltas = on_circle(*ANGLES)
    deltas = torch.cat([deltas, -base[None]])  # the third source is zero
    merged = merge(METHODS["karcher"], base, deltas, [1.0, 1.0, 2.0])
    middle = sum(ANGLES) / 2
    expected = 0.5 * torch.tensor([[math.cos(middle), math.sin(middle)]])
    torch.testing.assert_close(merged, expected, atol=1e-6, rtol=0)
    nothing = merge(METHODS["karcher"], base, -base.expand(2, -1, -1), [1.0, 1.0])
    assert torch.equal(nothing, torch.zeros_like(base))


def test_karcher_of_opposite_sources_is_one_of_them() -> None:
    base, deltas = on_circle(0.3, 0.3 + math.pi)
    merged = merge(METHODS["karcher"], base, deltas, [1.0, 1.0])
    assert torch.isfinite(merged).all()
    assert merged.norm() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(300, 500), (1, 7), (0, 3), ()], ids=str)
def test_a_gram_matrix_over_blocks_is_that_of_whole_tensors(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    base, deltas = draw(shape)
    base = base.to(dtype)
    for found, rows in ((gram(deltas), deltas), (gram(deltas, base), deltas + base.float())):
        flat = rows.reshape(3, -1).double()
        exact = rows is not deltas  # of deltas, blocks are summed in float32
        size = flat.norm(dim=1).max().item() ** 2
        tolerance = (1e-6 if exact else 1e-5) * size + 1e-12
        torch.testing.assert_close(found, flat @ flat.T, atol=tolerance, rtol=0)
