"""CMA-ES for several objectives and limits, by one weighted goal for the whole search.

    goal = max_i w_i l_i + 0.05 sum_i w_i l_i,   l_i = 1 - value, or the value where less is better
    goal = 2 + sum of the positive violations    where a limit is broken

The augmented Chebyshev scalarization (Steuer and Choo 1983) reaches any point of a front; its
weights say which. The distribution begins at the best of the trials enqueued before it, such as a
warm start, else in the middle. It is rebuilt from the finished trials, so a resumed study goes on
where it was. Numbers only: choices cannot be ordered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Any

import cmaes
import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.samplers.unit_cube import (
    ENQUEUED,
    Number,
    UnitCubeSampler,
    from_unit,
    numbers,
    to_unit,
    violation_of,
)

Goal = Callable[[FrozenTrial], float]
_AUGMENTED = 0.05  # share of the sum, which tells weakly dominated points from the others
_BROKEN = 2.0  # above every goal within the limits, which is at most 1.05
_RESAMPLED = 10  # draws until one lies in the ranges; then what lies outside is clipped


class ChebyshevCmaEs(UnitCubeSampler):
    """See the top of this file.

    Args:
        weights: of the objectives in canonical order, at least 0; None is equal ones.
        sigma: first standard deviation, as a share of each range.
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        weights: Sequence[float] | None = None,
        sigma: float = 1 / 6,
        population: int | None = None,
    ) -> None:
        if weights is not None and not (min(weights, default=0.0) >= 0.0 < sum(weights)):
            raise ValueError(f"weights are {list(weights)}; give numbers of at least 0, not all 0")
        if not sigma > 0.0 or (population is not None and population < 2):
            raise ValueError(f"sigma is {sigma} and population {population}; give > 0 and >= 2")
        super().__init__(seed)
        self._weights = weights
        self._sigma = sigma
        self._population = population
        self._rng = np.random.RandomState(None if seed is None else seed % 2**32)
        self.strategy: cmaes.CMA | None = None
        self._learned: set[int] = set()

    def reseed_rng(self) -> None:
        self._rng.seed()
        super().reseed_rng()

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        goal, space = _goal_of(study.directions, self._weights), numbers(search_space)
        if not space or ENQUEUED in trial.system_attrs:
            return {}
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if self.strategy is None:
            self.strategy = self._begin(trials, space, goal)
        fresh = [trial for trial in trials if trial.number not in self._learned]
        size = self.strategy.population_size
        for first in range(0, len(fresh) - size + 1, size):
            generation = fresh[first : first + size]
            self.strategy.tell([(to_unit(trial, space), goal(trial)) for trial in generation])
            self._learned |= {trial.number for trial in generation}
        self.strategy.reseed_rng(self._rng.randint(2**31))
        return from_unit(self.strategy.ask(), space)

    def _begin(
        self, trials: Sequence[FrozenTrial], space: Mapping[str, Number], goal: Goal
    ) -> cmaes.CMA:
        enqueued = list(takewhile(lambda trial: ENQUEUED in trial.system_attrs, trials))
        self._learned = {trial.number for trial in enqueued}
        mean = np.full(len(space), 0.5)
        if enqueued:
            mean = to_unit(min(enqueued, key=goal), space)
        return cmaes.CMA(
            mean,
            self._sigma,
            bounds=np.tile([0.0, 1.0], (len(space), 1)),
            n_max_resampling=_RESAMPLED,
            population_size=self._population,
        )


def _goal_of(directions: Sequence[StudyDirection], weights: Sequence[float] | None) -> Goal:
    """The number to minimise of a finished trial."""
    given = [1.0] * len(directions) if weights is None else list(weights)
    if len(given) != len(directions):
        raise ValueError(f"{len(given)} weights are given for {len(directions)} objectives")
    shares = [weight / sum(given) for weight in given]
    larger = [direction == StudyDirection.MAXIMIZE for direction in directions]

    def goal(trial: FrozenTrial) -> float:
        broken = violation_of(trial)
        if broken > 0.0:
            return _BROKEN + broken
        losses: list[float] = [
            share * (1.0 - value if up else value)
            for share, up, value in zip(shares, larger, trial.values, strict=True)
        ]
        return max(losses) + _AUGMENTED * math.fsum(losses)

    return goal
