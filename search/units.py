"""Coordinates of a study in the unit cube, linear or by logarithm, as our samplers see them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import FrozenTrial

ENQUEUED = "fixed_params"  # Optuna's system attribute of trials whose numbers were given


def _ends(kind: BaseDistribution) -> tuple[float, float]:
    """The interval that the unit interval stands for; a whole number owns what rounds to it."""
    half = 0.5 if isinstance(kind, IntDistribution) else 0.0
    low, high = kind.low - half, kind.high + half
    return (math.log(low), math.log(high)) if kind.log else (low, high)


def to_unit(trial: FrozenTrial, space: Mapping[str, BaseDistribution]) -> NDArray[np.float64]:
    """A trial's numbers, (n_dimensions,), each in [0, 1]."""
    unit = []
    for name, kind in space.items():
        low, high = _ends(kind)
        value = float(trial.params[name])
        unit.append(((math.log(value) if kind.log else value) - low) / (high - low))
    return np.asarray(np.clip(unit, 0.0, 1.0), dtype=np.float64)


def from_unit(unit: NDArray[np.float64], space: Mapping[str, BaseDistribution]) -> dict[str, float]:
    """The numbers at a point of the unit cube, (n_dimensions,)."""
    params: dict[str, float] = {}
    for share, (name, kind) in zip(unit.tolist(), space.items(), strict=True):
        low, high = _ends(kind)
        value = low + share * (high - low)
        value = math.exp(value) if kind.log else value
        if isinstance(kind, IntDistribution):
            value = round(value)
        params[name] = min(max(value, kind.low), kind.high)
    return params
