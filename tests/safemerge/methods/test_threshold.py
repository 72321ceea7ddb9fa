"""Magnitude thresholds are those of a full sort, whatever the values and the sample."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from safemerge.methods.common.threshold import keep_window, magnitude_at, select_magnitude

LARGE = (300, 500)  # more entries than are sorted outright


def kinds() -> dict[str, Tensor]:
    """Large tensors of every kind of distribution that deltas have."""
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(LARGE, generator=random)
    base = 0.02 * torch.randn(LARGE, generator=random)
    stored = (base.bfloat16() + 2e-4 * noise).bfloat16().float() - base.bfloat16().float()
    sparse = noise * (torch.rand(LARGE, generator=random) < 0.05)
    columns = noise * torch.logspace(-8, 3, LARGE[1])
    return {
        "noise": noise,
        "steps": stored,
        "sparse": sparse,
        "columns": columns,
        "equal": torch.full(LARGE, -0.5),
        "zero": torch.zeros(LARGE),
        "two values": torch.where(noise > 1.0, 2.0, -1.0),
    }


@pytest.mark.parametrize("kind", kinds())
def test_thresholds_are_those_of_a_sort(kind: str) -> None:
    values = kinds()[kind]
    ordered = values.abs().reshape(-1).sort().values
    last = values.numel() - 1
    positions = [0, 1, last // 100, last // 3, last // 2, int(0.95 * last), last - 1, last]
    assert magnitude_at(values, positions) == ordered[positions].tolist()


@given(
    values=st.lists(st.floats(-1e3, 1e3, width=32) | st.sampled_from([0.0, 1.0, -1.0]), min_size=1),
    data=st.data(),
)
def test_thresholds_of_small_tensors_are_those_of_a_sort(
    values: list[float], data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(values) - 1))
    assert magnitude_at(torch.tensor(values), [position]) == [sorted(map(abs, values))[position]]


@pytest.mark.parametrize("bracket", [(0.0, 0.0), (3.0, math.inf), (1.0, 1.0), (0.1, 0.2)], ids=str)
def test_a_bracket_that_misses_changes_nothing(bracket: tuple[float, float]) -> None:
    values = kinds()["noise"]
    ordered = values.abs().reshape(-1).sort().values
    for position in (0, 10, 75_000, 149_999):
        found = select_magnitude(values.reshape(-1).numpy(), position, bracket)
        assert found == ordered[position].item()


@given(
    deltas=st.lists(st.floats(-4, 4, width=16), min_size=6, max_size=6),
    low=st.sampled_from([0.0, 0.5, 1.0, math.inf]),
    width=st.sampled_from([0.0, 0.25, 2.0, math.inf]),
)
@settings(max_examples=60)
def test_a_window_keeps_its_ends_and_what_lies_between(
    deltas: list[float], low: float, width: float
) -> None:
    pair = torch.tensor([deltas, deltas])
    kept = keep_window(pair, torch.tensor([low, 0.0]), torch.tensor([low + width, math.inf]))
    expected = [value if low <= abs(value) <= low + width else 0.0 for value in deltas]
    assert kept[0].tolist() == expected
    assert torch.equal(kept[1], pair[1])


def test_every_value_next_to_a_bound_falls_on_its_side() -> None:
    """The bound moves by one unit in the last place; subnormal and huge values have those too."""
    for bound in np.float32([1e-45, 1e-38, 1e-7, 0.3, 1.0, 3e38]):
        around = [float(np.nextafter(bound, np.float32(to))) for to in (-1, np.inf)]
        values = torch.tensor([[around[0], float(bound), -float(bound), around[1]]])
        low, high = torch.tensor([float(bound)]), torch.tensor([float(bound)])
        kept = keep_window(values, low, high)
        assert kept[0].tolist() == [0.0, float(bound), -float(bound), 0.0]
