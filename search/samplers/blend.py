"""A sampler that goes on from a front: it blends two of its points and adds a little noise.

    x = a + t (b - a) + noise,   t ~ U(-0.2, 1.2),   noise_i ~ N(0, (0.2 |b_i - a_i| + 0.01)^2)

in coordinates scaled to [0, 1]: the line recombination of Muehlenbein and Schlierkamp-Voosen (1993)
with Gaussian mutation. The first point is drawn uniformly from the front, the second in proportion
to the distance of its scores from the first one's. A choice is taken from either. It needs a front
to go on from, such as that of a warm start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import moocore
import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from search.samplers.unit_cube import (
    ENQUEUED,
    UnitCubeSampler,
    from_unit,
    losses_of,
    numbers,
    to_unit,
    violation_of,
)

Discrete = CategoricalDistribution | IntDistribution
_BEYOND = 0.2  # how far a blend may go past either point, as a share of their distance
_SHARE, _FLOOR = 0.2, 0.01  # of the noise
_REDRAWN = 0.1  # share of the choices and whole numbers that are drawn uniformly
_POOL = 4  # points to blend at least; where the front has fewer, the next fronts are added


class FrontBlend(UnitCubeSampler):
    """See the top of this file; the first `n_startup_trials` are drawn uniformly."""

    def __init__(self, *, seed: int | None = None, n_startup_trials: int = 10) -> None:
        self._startup = max(2, n_startup_trials)
        super().__init__(seed)
        self._rng = np.random.default_rng(seed)

    def reseed_rng(self) -> None:
        self._rng = np.random.default_rng()
        super().reseed_rng()

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not search_space or ENQUEUED in trial.system_attrs or len(trials) < self._startup:
            return {}
        losses = losses_of(trials, study.directions)
        firsts, seconds = _parents(trials, losses)
        first = int(self._rng.choice(firsts))
        away = np.linalg.norm(losses[seconds] - losses[first], axis=1)
        if away.sum() == 0.0:
            away = (seconds != first).astype(float)
        second = int(self._rng.choice(seconds, p=away / away.sum()))
        space = numbers(search_space)
        a, b = to_unit(trials[first], space), to_unit(trials[second], space)
        share = self._rng.uniform(-_BEYOND, 1.0 + _BEYOND)
        noise = self._rng.normal(size=len(a)) * (_SHARE * np.abs(b - a) + _FLOOR)
        drawn: dict[str, Any] = from_unit(np.clip(a + share * (b - a) + noise, 0.0, 1.0), space)
        for name, kind in search_space.items():
            if name not in space:
                drawn[name] = trials[first if self._rng.random() < 0.5 else second].params[name]
            if isinstance(kind, Discrete) and self._rng.random() < _REDRAWN:
                drawn[name] = self._uniformly(kind)
        return drawn

    def _uniformly(self, kind: Discrete) -> Any:
        if isinstance(kind, CategoricalDistribution):
            return kind.choices[self._rng.integers(len(kind.choices))]
        return int(self._rng.integers(kind.low, kind.high + 1))


def _parents(
    trials: Sequence[FrozenTrial], losses: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the trials that the first point is drawn from, and the second.

    The first comes from the best fronts within the limits, or, where fewer than two trials are
    within them, from those with the smallest violations.
    """
    broken = np.array([violation_of(trial) for trial in trials])
    order = np.argsort(broken, kind="stable")
    within = order[broken[order] == 0.0]
    chosen = within if len(within) >= 2 else order[:_POOL]
    rank = moocore.pareto_rank(losses[chosen])
    last = np.sort(rank)[min(_POOL, len(chosen)) - 1]
    firsts = chosen[rank <= last]
    free = np.flatnonzero(moocore.pareto_rank(losses) == 0)
    return firsts, np.union1d(firsts, free)
