"""Parameter: one entry of the search space, which a sampler draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import optuna

Point = Mapping[str, float | str]
"""A value for every parameter: a number, or the option of a choice."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number in a range, or a choice where there are `options`."""

    low: float = 0.0  # of the range that is drawn from, both ends included
    high: float = 0.0
    log: bool = False  # drawn, interpolated and fitted on a log scale
    integer: bool = False
    zero_tail: bool = False  # `low` is below 0, and what is drawn there stands for 0
    levels: int | None = None  # how many values it takes, evenly on a log scale; None: any between
    options: tuple[str, ...] = ()

    @property
    def fixed(self) -> bool:
        """Holds a single value."""
        return len(self.options) == 1 if self.options else self.low == self.high

    @property
    def least(self) -> float:
        """The lowest value that a drawn number stands for."""
        return 0.0 if self.zero_tail else self.low

    def suggest(self, trial: optuna.Trial, name: str) -> float | str:
        """Ask Optuna for a value."""
        if self.options:
            option: str = trial.suggest_categorical(name, self.options)
            return option
        number: float
        if self.integer:
            number = trial.suggest_int(name, int(self.low), int(self.high))
        else:
            number = trial.suggest_float(name, self.low, self.high, log=self.log)
        return number

    def nearest(self, value: float) -> float:
        """The value that it takes nearest to a number."""
        value = min(max(value, self.least), self.high)
        if self.levels is None:
            return value
        taken = _spaced(self.low, self.high, self.levels)
        return float(taken[np.argmin(np.abs(np.log(taken / value)))])


@lru_cache(maxsize=8)
def _spaced(low: float, high: float, count: int) -> NDArray[np.float64]:
    """Numbers evenly spaced on a log scale, both ends included."""
    return np.geomspace(low, high, count)
