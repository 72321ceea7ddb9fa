"""Dimension and Quantity: what a sampler draws, and the numbers of place groups made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from search.config.profiles import Column

if TYPE_CHECKING:
    import optuna

_ROUNDING = 1e-9  # of a fit, as a share of the range: what is nearer to exactly off is off

Point = Mapping[str, float | str]
"""A value for every dimension: a number, or the option of a choice."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """A number in a range, or a choice where there are `options`.

    Args:
        low, high: the range, both ends included.
        log: searched on a log scale.
        whole: whole numbers only.
        options: of a choice, in order.
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    options: tuple[str, ...] = ()

    @property
    def fixed(self) -> bool:
        """Holds a single value."""
        return len(self.options) == 1 if self.options else self.low == self.high

    def suggest(self, trial: optuna.Trial, name: str) -> float | str:
        """Ask Optuna for a value."""
        if self.options:
            option: str = trial.suggest_categorical(name, self.options)
            return option
        number: float
        if self.whole:
            number = trial.suggest_int(name, int(self.low), int(self.high))
        else:
            number = trial.suggest_float(name, self.low, self.high, log=self.log)
        return number


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number at every place group: a source's weight, the rank ratio, a source's density.

    Args:
        columns: how the groups share their dimensions.
        name: of a dimension, with `{}` for its knot, such as `{}:medic`.
        low, high: range of the quantity.
        log: searched, interpolated and fitted on a log scale.
        off: length of the part below `low` that dimensions have besides; all of it means `low`, so
            that a drawn number has a positive probability of being exactly that.
        values: how many values it takes, evenly from `low` to `high` on its scale, at least 2; None
            is any value between.
    """

    columns: tuple[Column, ...]
    name: str
    low: float
    high: float
    log: bool = False
    off: float = 0.0
    values: int | None = None

    def dimensions(self) -> dict[str, Dimension]:
        """`{name: dimension}`, column by column."""
        found: dict[str, Dimension] = {}
        knot = Dimension(self.low - self.off, self.high, self.log)
        for column in self.columns:
            found.update({self.name.format(name): knot for name in column.knots})
            for name, (low, high) in column.whole.items():
                found[self.name.format(name)] = Dimension(low, high, whole=True)
        return found

    def expand(self, point: Point) -> dict[str, float]:
        """`{group: value}` at a point."""
        values: dict[str, float] = {}
        for column in self.columns:
            numbers = {name: float(point[self.name.format(name)]) for name in column.names}
            for knot in column.knots if self.off else ():
                numbers[knot] = max(numbers[knot], self.low)
            values.update(column.expand(numbers, log=self.log))
        return {group: self.nearest(value) for group, value in values.items()}

    def nearest(self, value: float) -> float:
        """The value that the quantity takes nearest to a number."""
        value = min(max(value, self.low), self.high)
        if self.values is None:
            return value
        spaced = np.geomspace if self.log else np.linspace
        taken = spaced(self.low, self.high, self.values)
        far = np.log(taken / value) if self.log else taken - value
        return float(taken[np.argmin(np.abs(far))])

    def fit(self, values: Mapping[str, float]) -> dict[str, float]:
        """The point, as far as it is this quantity's, that expands to values nearest to these.

        A knot at `low` is put in the middle of what is off: what is drawn near it is off as well.
        """
        point: dict[str, float] = {}
        for column in self.columns:
            numbers = column.fit(values, self.low, self.high, log=self.log)
            for knot in column.knots if self.off else ():
                if numbers[knot] - self.low <= _ROUNDING * (self.high - self.low):
                    numbers[knot] = self.low - 0.5 * self.off
            point.update({self.name.format(name): number for name, number in numbers.items()})
        return point
