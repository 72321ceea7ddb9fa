"""Coordinates of a study in the unit cube, linear or logarithmic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from search.metrics import total_violation

Number = FloatDistribution | IntDistribution
ENQUEUED = "fixed_params"  # Optuna's system attribute of trials whose numbers were given


class UnitCubeSampler(optuna.samplers.BaseSampler):
    """Draws all numbers together, and uniformly where nothing is known."""

    def __init__(self, seed: int | None) -> None:
        self._random = optuna.samplers.RandomSampler(seed=seed)
        self._space = optuna.search_space.IntersectionSearchSpace()

    def reseed_rng(self) -> None:
        self._random.reseed_rng()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The dimensions that all finished trials share and that are not fixed."""
        shared = self._space.calculate(study)
        return {name: kind for name, kind in shared.items() if not kind.single()}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def numbers(space: Mapping[str, BaseDistribution]) -> dict[str, Number]:
    return {name: kind for name, kind in space.items() if isinstance(kind, Number)}


def _ends(kind: Number) -> tuple[float, float]:
    """The interval that [0, 1] maps to; half a step wider for whole numbers, which are rounded."""
    half = 0.5 if isinstance(kind, IntDistribution) else 0.0
    low, high = kind.low - half, kind.high + half
    return (math.log(low), math.log(high)) if kind.log else (low, high)


def to_unit(trial: FrozenTrial, space: Mapping[str, Number]) -> NDArray[np.float64]:
    """A trial's numbers, (n_dimensions,), each in [0, 1]."""
    unit = []
    for name, kind in space.items():
        low, high = _ends(kind)
        value = float(trial.params[name])
        unit.append(((math.log(value) if kind.log else value) - low) / (high - low))
    return np.asarray(np.clip(unit, 0.0, 1.0), dtype=np.float64)


def from_unit(unit: NDArray[np.float64], space: Mapping[str, Number]) -> dict[str, float]:
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


def violation_of(trial: FrozenTrial) -> float:
    """Sum of a trial's positive violations of the limits; 0 is within all of them."""
    return total_violation(trial.constraints.values())


def losses_of(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
) -> NDArray[np.float64]:
    """Scores with the sign that makes smaller better, (n_trials, n_objectives)."""
    signs = [-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in directions]
    return np.asarray([trial.values for trial in trials]) * signs
