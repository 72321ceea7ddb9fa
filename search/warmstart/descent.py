"""Trust-region descent on a surrogate of the probe losses, with early stopping.

A step minimises the surrogate (`linearised.py`) within a radius, and takes losses and gradients of
all probes there (`probe_losses.py`), which join the surrogate. The radius grows where the surrogate
predicted the gain and shrinks where it did not (Conn, Gould and Toint, Trust-Region Methods, 2000).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from search.config import WarmStartConfig
from search.runs.rundir import RunDir
from search.warmstart.linearised import (
    Linearisation,
    LinearisedLosses,
    Regularisation,
    TrustRegion,
)
from search.warmstart.probe_losses import GroupLosses, ProbeLosses

LINEARISATIONS = "warmstart"  # folder of a run, while its warm start is under way
_PREDICTED, _MISSED = 0.75, 0.25  # share of a promised gain that makes the radius grow, or shrink
_GROW, _SHRINK = 1.5, 0.5
_LAST_NOISE = 0.5  # of the noise of the steps, in what a descent ends with


@dataclass(frozen=True, slots=True)
class Iterate:
    """The best linearised point so far, and how far the surrogate is trusted around it."""

    point: Linearisation  # at the knots of the weights, flattened
    losses: Mapping[str, float]  # there, means over all probes of an axis
    radius: float  # most that a step may change a knot, in weight units


@dataclass(frozen=True, slots=True)
class Scalarization:
    """A weighted sum of the axes' losses, which is minimised under noise on the weights."""

    weights: Mapping[str, float]  # by axis, at least 0
    seed: int  # of the noise

    def of(self, losses: Mapping[str, float]) -> float:
        """The sum of losses by axis."""
        return sum(self.weights[axis] * loss for axis, loss in losses.items())


class Descent:
    """Trust-region steps on the knots of a space's weights, by one surrogate for all of them."""

    def __init__(self, losses: ProbeLosses, config: WarmStartConfig, home: RunDir | None) -> None:
        """Begin; nothing is measured yet. `home` keeps every linearisation."""
        self._losses = losses
        self._config = config
        self._home = home
        self._made = 0
        self._bounds = losses.space.ranges.weight
        self._surrogate = LinearisedLosses([group.axis for group in losses.groups.search])

    def run(
        self, start: Iterate, goal: Scalarization, steps: int, on_step: Callable[[], None]
    ) -> Iterate:
        """Where at most some steps lead, each followed by a call of `on_step`.

        Stops sooner, and goes back, where `patience` steps have not lowered the loss of search and
        validation probes together; without validation probes it takes all steps.
        """
        current = best = start
        waited = 0
        for _ in range(steps):
            if self._losses.groups.validation and waited == self._config.patience:
                break
            current = self._step(current, goal)
            on_step()
            loss, least = goal.of(current.losses), goal.of(best.losses)
            waited = 0 if loss < least else waited + 1
            if loss <= least:
                best = current
        return best

    def _step(self, current: Iterate, goal: Scalarization) -> Iterate:
        def surrogate_loss(margins: Tensor) -> Tensor:
            return self._surrogate.loss(margins, goal.weights)

        target = self._minimise(
            current, goal, weight_noise_std=self._config.weight_noise_std, prior_l2=0.0
        )
        now = surrogate_loss(current.point.margins)
        promised = (now - surrogate_loss(self._surrogate.margins(target))).item()
        reached = self.linearise(target)
        gained = -torch.inf
        if reached is not None:
            gained = (now - surrogate_loss(reached.point.margins)).item()
        radius = current.radius
        # What is least under noise may promise nothing without it.
        if promised <= 0.0 or gained < _MISSED * promised:
            radius *= _SHRINK
        elif gained > _PREDICTED * promised:
            radius *= _GROW
        moved = current if reached is None or gained <= 0.0 else reached
        return replace(moved, radius=radius)

    def solution(self, end: Iterate, goal: Scalarization) -> Tensor:
        """Knots to end with, (n_knots * n_sources,): of low loss within the radius, near the prior.

        Half of the steps' noise, and a penalty that keeps what no probe asks about near the prior.
        """
        std = _LAST_NOISE * self._config.weight_noise_std
        return self._minimise(end, goal, weight_noise_std=std, prior_l2=self._config.prior_l2)

    def _minimise(
        self, current: Iterate, goal: Scalarization, *, weight_noise_std: float, prior_l2: float
    ) -> Tensor:
        region = TrustRegion(current.point.at, current.radius, self._bounds)
        regular = Regularisation(self._losses.prior, prior_l2, weight_noise_std, goal.seed)
        return self._surrogate.minimise(goal.weights, region, regular)

    def linearise(self, knots: Tensor) -> Iterate | None:
        """The iterate at some knots, taken into the surrogate; None where it is not finite."""
        measured = self._measured(knots)
        if measured is None:
            return None
        losses, gradients = torch.tensor(measured.losses), torch.tensor(measured.gradients)
        point = Linearisation.of_losses(knots, losses, gradients)
        self._surrogate.add(point)
        low, high = self._bounds
        return Iterate(point, self._losses.by_axis(measured), self._config.radius * (high - low))

    def _measured(self, knots: Tensor) -> GroupLosses | None:
        """Losses and gradients, read from the run where they were taken before a kill."""
        name = f"{LINEARISATIONS}/{self._made:03d}.json"
        self._made += 1
        record = None if self._home is None else self._home.read(name)
        if record is not None and record.pop("at") == knots.tolist():
            return None if record["losses"] is None else GroupLosses(**record)
        measured = self._losses.measure(knots)
        if self._home is not None:
            nothing = {"losses": None, "gradients": None, "validation": None}
            record = nothing if measured is None else asdict(measured)
            self._home.write(name, {"at": knots.tolist(), **record})
        return measured
