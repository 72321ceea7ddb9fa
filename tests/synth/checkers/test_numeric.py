"""Which number of a reply is its answer, and when two numbers are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.checkers.numeric import number_in, same_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Take 5 mg.", 5),
        ("The dose is 20 mg, taken 2 times a day", 20),
        ("Take 20 mg 2 times a day", 20),
        ("It is 20 mg. The maximum is 80 mg a day.", 20),
        ("2 times 40 is 80", 80),
        ("2 * 40 = 80", 80),
        ("First 3 is added to 4. That is 7. So 7 times 2 = 14.", 14),
        ("The answer is 14, since 7 * 2 is that of 3", 14),
        ("\\boxed{14} of 20", 14),
        ("**Answer:** 14 (of 20)", 14),
        ("7 + 7\n#### 14", 14),
        ("The final answer is $20$. I hope it is correct.", 20),
        ("1. Open it\n2. Take 30 mg", 30),
        ("It is not 20 mg but 40 mg.", 40),
        ("1,234.5 units", 1234.5),
        ("1.234,5 kg", 1234.5),
        ("12\u202f000", 12000),
        ("2,5 mg", 2.5),
        ("0,125", 0.125),
        ("12,000", 12000),
        ("It costs $1,299.99.", 1299.99),
        ("about -3.2e-2", -0.032),
        ("minus −7", -7),
        ("It has four chambers.", 4),
        ("vitamin B12", None),
        ("none", None),
        ("1e999", None),
        ("10-20 mg", None),
        ("10 to 20 mg", None),
    ],
)
def test_the_number_that_answers_is_found(text: str, number: float | None) -> None:
    found = number_in(text)
    assert (found and found.number) == number


@pytest.mark.parametrize(
    ("reply", "wanted", "same"),
    [
        ("0.02 g", "20 mg", True),
        ("20 milligrams", "20 mg", True),
        ("20", "20 mg", True),
        ("20 mg", "20", True),
        ("20 g", "20 mg", False),
        ("20 micrograms", "20 mg", False),
        ("20 mL", "20 mg", False),
        ("In 2 hours you take 20 mg", "20 mg", True),
        ("The dose is 20 mg, taken 2 times a day", "2", False),
        ("24 hours", "1 day", True),
        ("12 months", "1 year", True),
        ("98.6 °F", "98.6 °C", False),
        ("50 %", "0.5", True),
        ("0.5", "50 percent", True),
        ("50", "50 %", True),
        ("fifty percent", "50%", True),
        ("fifty", "60", False),
        ("no number", "5", False),
        ("5", "no number", False),
    ],
)
def test_units_and_percent_are_reckoned_with(reply: str, wanted: str, same: bool) -> None:
    assert same_number(reply, wanted, tolerance=0.01) == same


@given(st.integers(-(10**9), 10**9), st.sampled_from([0.0, 0.01, 0.1]))
def test_numbers_are_the_same_within_the_tolerance(number: int, tolerance: float) -> None:
    assert same_number(f"It is {number:,}.", str(number), tolerance=tolerance)
    off = number + max(1, abs(number)) * (tolerance * 1.5 + 0.001)
    assert not same_number(f"{off:.6f}", str(number), tolerance=tolerance)


@given(st.floats(min_value=0.001, max_value=1e6), st.sampled_from(["mg", "g", "kg", "ml", "h"]))
def test_a_quantity_is_the_same_as_itself_and_not_as_twice_as_much(size: float, unit: str) -> None:
    text = f"{size:.4f} {unit}"
    assert same_number(f"You need {text}.", text, tolerance=0.0)
    assert not same_number(f"{2 * size + 1:.4f} {unit}", text, tolerance=0.01)


def test_with_no_tolerance_a_year_off_is_another_year() -> None:
    assert not same_number("In 1999.", "1998", tolerance=0.0)
    assert same_number("In 1998, of course.", "1998", tolerance=0.0)
