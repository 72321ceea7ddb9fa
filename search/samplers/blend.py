"""A sampler that goes on from a front: it blends two of its points, and adds a little noise.

    x = a + t (b - a) + noise,   t ~ U(-0.2, 1.2),   noise_i ~ N(0, (0.2 |b_i - a_i| + 0.01)^2)

in coordinates scaled to [0, 1]. What lies between two good merges of the same sources is mostly a
good merge too, with scores in between, so blends fill the gaps of a front that a gradient warm
start has laid out, and a little beyond its ends. The first point is drawn evenly from the front,
the second in proportion to how far its scores are from the first one's. A choice is taken from
either. Without a warm start, or another run's front, there is nothing to go on from: take another
sampler then. Ours.
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
    UnitSampler,
    from_unit,
    losses_of,
    to_unit,
    violation_of,
)

_BEYOND = 0.2  # how far a blend may go past either point, as a share of their distance
_SHARE, _FLOOR = 0.2, 0.01  # of the noise
_ANEW = 0.1  # of the choices and whole numbers are drawn evenly
_POOL = 4  # points to blend at least; where the front has fewer, the next fronts lend theirs


class FrontBlend(UnitSampler):
    """See the top of this file.

    Args:
        seed: of the draws.
        n_startup_trials: drawn evenly before there is a front to go on from.
    """

    def __init__(self, *, seed: int | None = None, n_startup_trials: int = 10) -> None:
        self._startup = max(2, n_startup_trials)
        super().__init__(seed)
        self._rng = np.random.default_rng(seed)

    def reseed_rng(self) -> None:
        """Draw on from a random seed, for parallel workers."""
        self._rng = np.random.default_rng()
        super().reseed_rng()

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A blend of two points of the front."""
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
        numbers = {
            name: kind
            for name, kind in search_space.items()
            if not isinstance(kind, CategoricalDistribution)
        }
        a, b = to_unit(trials[first], numbers), to_unit(trials[second], numbers)
        share = self._rng.uniform(-_BEYOND, 1.0 + _BEYOND)
        noise = self._rng.normal(size=len(a)) * (_SHARE * np.abs(b - a) + _FLOOR)
        drawn: dict[str, Any] = from_unit(np.clip(a + share * (b - a) + noise, 0.0, 1.0), numbers)
        for name, kind in search_space.items():
            if name not in numbers:
                drawn[name] = trials[first if self._rng.random() < 0.5 else second].params[name]
            choice = isinstance(kind, CategoricalDistribution | IntDistribution)
            if choice and self._rng.random() < _ANEW:
                drawn[name] = self._evenly(kind)
        return drawn

    def _evenly(self, kind: CategoricalDistribution | IntDistribution) -> Any:
        if isinstance(kind, CategoricalDistribution):
            return kind.choices[self._rng.integers(len(kind.choices))]
        return int(self._rng.integers(kind.low, kind.high + 1))


def _parents(
    trials: Sequence[FrozenTrial], losses: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the trials that a first point is drawn from, and a second one.

    The first ones are the best fronts within the limits; where fewer than two trials are, those
    that break them least.
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
