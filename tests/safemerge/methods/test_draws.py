"""Random masks: the right probabilities, the same everywhere."""

import math
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from safemerge.methods.common.draws import keep_by_rank, keep_evenly, probability

ROWS = 40_000
# Of seed 7, at density 0.3: the first 24 entries, and those of the second stream.
FIRST = "010001101000010000000000"
FIRST_OF_NEXT_STREAM = "000010010000110000000000"


def test_draws_of_a_seed_are_fixed_for_all_time() -> None:
    assert bits(keep_evenly(7, 0.3, torch.zeros(24))) == FIRST
    assert bits(keep_evenly(7, 0.3, torch.zeros(5))) == FIRST[:5]
    assert bits(keep_evenly(8, 0.3, torch.zeros(24))) != FIRST
    assert bits(keep_evenly(7, 0.3, torch.zeros(24), 2**19)) == FIRST_OF_NEXT_STREAM


def bits(keep: Tensor) -> str:
    return "".join(map(str, keep.tolist()))


@given(
    begin=st.integers(0, 2**20 + 9), count=st.integers(0, 9), density=st.sampled_from([0.3, 0.5])
)
def test_a_piece_is_kept_as_it_is_in_the_whole(begin: int, count: int, density: float) -> None:
    piece = keep_evenly(7, density, torch.zeros(count), begin)
    assert piece.equal(whole_mask(density)[begin : begin + count])


@pytest.mark.parametrize("density", [0.3, 0.5])
def test_a_piece_may_reach_over_several_streams(density: float) -> None:
    piece = keep_evenly(7, density, torch.zeros(2**19 + 5), 2**19 - 3)
    assert piece.equal(whole_mask(density)[2**19 - 3 : 2**20 + 2])


@cache
def whole_mask(density: float) -> Tensor:
    return keep_evenly(7, density, torch.zeros(2**20 + 20))


def test_a_higher_density_keeps_what_a_lower_one_keeps() -> None:
    masks = [keep_evenly(7, k / 2**16, torch.zeros(10**5)) for k in (5000, 5001, 5120, 5375, 5376)]
    for fewer, more in pairwise(masks):
        assert (fewer <= more).all()


@pytest.mark.parametrize("density", [0.0, 1e-6, 0.001, 0.3, 0.5, 0.999999, 1.0])
def test_entries_are_kept_as_often_as_the_density_says(density: float) -> None:
    kept = keep_evenly(3, density, torch.zeros(1000, 1000))
    assert kept.dtype == torch.uint8
    assert abs(probability(density) - density) <= 2**-17
    near(kept.double().mean().item(), probability(density), kept.numel())


def near(share: float, expected: float, count: int) -> None:
    """Within five standard errors."""
    assert abs(share - expected) <= 5 * math.sqrt(expected * (1 - expected) / count)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 4), (4, 0), (3, 1), (1, 3), (2, 3, 5)])
def test_masks_have_the_shape_of_the_delta(shape: tuple[int, ...]) -> None:
    assert keep_evenly(0, 0.5, torch.zeros(shape)).shape == shape
    assert keep_by_rank(0, 0.5, 0.1, torch.zeros(shape)).shape == shape


@pytest.mark.parametrize(
    ("density", "epsilon", "expected"),
    [
        (0.5, 0.2, [0.3, 0.4, 0.5, 0.6, 0.7]),
        (0.9, 0.15, [0.8, 0.85, 0.9, 0.95, 1.0]),  # narrowed to 0.1
        (0.1, 0.5, [0.0, 0.05, 0.1, 0.15, 0.2]),
        (1.0, 0.3, [1.0] * 5),
        (0.0, 0.3, [0.0] * 5),
        (0.5, 0.0, [0.5] * 5),
        (0.5, 1e-9, [0.5] * 5),
    ],
)
def test_larger_entries_of_a_row_are_kept_more_often(
    density: float, epsilon: float, expected: list[float]
) -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    sign = torch.tensor([1.0, -1.0, -1.0, 1.0, 1.0])
    delta = (sign * torch.tensor([0.1, 0.5, 0.7, 2.0, 9.0])[order]).repeat(ROWS, 1)
    kept = keep_by_rank(1, density, epsilon, delta)
    for column, rank in enumerate(order.tolist()):
        near(kept[:, column].double().mean().item(), expected[rank], ROWS)


def raw(seed: int, stream: tuple[int, ...], count: int, dtype: str) -> NDArray[Any]:
    """The first integers of numpy's SFC64 at a spawn key: what all masks are made of."""
    random = np.random.SFC64(np.random.SeedSequence(seed, spawn_key=stream))
    return np.asarray(random.random_raw(count // 4 + 1), "<u8").view(dtype)[:count]


@pytest.mark.parametrize("density", [0.3, 0.5, 0.501])
def test_a_draw_is_an_upper_byte_and_where_it_does_not_decide_a_lower_one(density: float) -> None:
    """Entry by entry: 16 bits, of which the lower eight are drawn for those that need them."""
    limit, count, first = round(density * 2**16), 3000, 2**19
    upper, lower = raw(9, (1, 0), count, "u1"), iter(raw(9, (1, 1), count, "u1"))
    expected = []
    for draw in upper.tolist():
        undecided = draw == limit // 256 and limit % 256 > 0
        expected.append(256 * draw + (int(next(lower)) if undecided else 0) < limit)
    assert keep_evenly(9, density, torch.zeros(count), first).tolist() == expected


def by_argsort(seed: int, density: float, epsilon: float, rows: Tensor) -> Tensor:
    """The plain way: a rank for every entry, then a probability, then a comparison."""
    ranks = rows.abs().argsort(dim=1).argsort(dim=1).double()
    share = density - epsilon + 2 * epsilon * ranks / (rows.shape[1] - 1)
    streams = range(rows.numel() // 2**19 + 1)
    drawn = np.concatenate([raw(seed, (stream,), 2**19, "<i2") for stream in streams])
    uniform = torch.from_numpy(drawn[: rows.numel()] / 2**16 + 0.5)
    return (uniform.reshape(rows.shape) < share).to(torch.uint8)


@pytest.mark.parametrize("columns", [2, 3, 100, 250])
def test_sizes_that_are_told_apart_have_the_masks_of_their_ranks(columns: int) -> None:
    random = torch.Generator().manual_seed(2)
    order = torch.rand(200, columns, generator=random).argsort(dim=1)
    rows = torch.ldexp(1.0 + (order % 16) / 16.0, order // 16 - 20)  # 16 steps an octave
    rows *= torch.randn(200, columns, generator=random).sign()
    found = keep_by_rank(5, 0.6, 0.25, rows)
    expected = by_argsort(5, 0.6, 0.25, rows)
    # float32 against float64, and limits on a grid of 65536: a draw may lie between both.
    assert (found != expected).double().mean() < 1e-4


@pytest.mark.parametrize("columns", [3, 100, 3000])
def test_masks_of_normal_rows_are_next_to_those_of_exact_ranks(columns: int) -> None:
    rows = torch.randn(2000, columns, generator=torch.Generator().manual_seed(2))
    found = keep_by_rank(5, 0.6, 0.25, rows)
    expected = by_argsort(5, 0.6, 0.25, rows)
    assert (found != expected).double().mean() < 0.03 * 0.25


def test_entries_of_equal_size_are_kept_alike_and_with_the_density() -> None:
    kept = keep_by_rank(1, 0.5, 0.3, torch.full((ROWS, 4), -2.0))
    near(kept.double().mean().item(), 0.5, kept.numel())


def test_one_entry_that_dwarfs_its_row_leaves_the_mean_at_the_density() -> None:
    rows = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(3))
    rows[:, 1] = 1e9
    kept = keep_by_rank(1, 0.5, 0.3, rows).double().mean(dim=0)
    for column, expected in enumerate([0.4, 0.8, 0.4, 0.4]):
        near(kept[column].item(), expected, ROWS)


def test_a_row_of_one_entry_is_kept_with_the_density() -> None:
    kept = keep_by_rank(1, 0.3, 0.2, torch.ones(ROWS, 1))
    near(kept.double().mean().item(), 0.3, ROWS)


def test_a_vector_is_one_row() -> None:
    vector = torch.randn(500, generator=torch.Generator().manual_seed(1))
    assert torch.equal(
        keep_by_rank(4, 0.5, 0.2, vector), keep_by_rank(4, 0.5, 0.2, vector[None])[0]
    )
