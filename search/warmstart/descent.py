"""Trust-region descent on a surrogate of the probe losses, with early stopping.

A step minimises the surrogate (`linearised.py`) within a radius, and takes losses and gradients of
all probes there (`probe_losses.py`), which join the surrogate. The radius grows where the surrogate
predicted the gain and shrinks where it did not (Conn, Gould and Toint, Trust-Region Methods, 2000).
Search and validation probes together, of which the latter give no gradient, say when to stop: the
descent goes back to where their loss was least.
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
    # `{axis: mean over all its probes}` there, of the search and for validation
    losses: Mapping[str, float]
    radius: float  # most that a step may change a knot, in weight units


class Descent:
    """Trust-region steps on the knots of a space's weights, by one surrogate for all of them."""

    def __init__(
        self, losses: ProbeLosses, config: WarmStartConfig, seed: int, home: RunDir | None
    ) -> None:
        """Begin; nothing is measured yet.

        Args:
            losses: what is descended.
            config: radius, noise, pull and patience.
            seed: of the noise.
            home: a run that keeps every linearisation, so that after a kill none is made twice.
        """
        self._losses = losses
        self._config = config
        self._seed = seed
        self._home = home
        self._made = 0
        self._bounds = losses.space.ranges.weight
        self._surrogate = LinearisedLosses([group.axis for group in losses.groups.search])

    def run(
        self,
        start: Iterate,
        axis_weights: Mapping[str, float],
        steps: int,
        stream: int,
        on_step: Callable[[], None],
    ) -> Iterate:
        """Where some steps lead by a scalarization of the axes' losses.

        Stops sooner, and goes back, where `patience` steps have not lowered the loss of search and
        validation probes together; without validation probes it takes all steps.

        Args:
            start: where it sets out.
            axis_weights: `{axis: weight of its loss}`.
            steps: most that are taken.
            stream: number of the noise's stream.
            on_step: called after every step.
        """
        current = best = start
        waited = 0
        for _ in range(steps):
            if self._losses.groups.validation and waited == self._config.patience:
                break
            current = self._step(current, axis_weights, stream)
            on_step()
            loss, least = (_weighted(at.losses, axis_weights) for at in (current, best))
            waited = 0 if loss < least else waited + 1
            if loss <= least:
                best = current
        return best

    def _step(self, current: Iterate, axis_weights: Mapping[str, float], stream: int) -> Iterate:
        surrogate = self._surrogate
        target = self._minimise(
            current, axis_weights, stream, noise=self._config.noise, prior_l2=0.0
        )
        now = surrogate.loss(current.point.margins, axis_weights)
        promised = (now - surrogate.loss(surrogate.margins(target), axis_weights)).item()
        reached = self.linearise(target)
        gained = -torch.inf
        if reached is not None:
            gained = (now - surrogate.loss(reached.point.margins, axis_weights)).item()
        radius = current.radius
        # What is least under noise may promise nothing without it.
        if promised <= 0.0 or gained < _MISSED * promised:
            radius *= _SHRINK
        elif gained > _PREDICTED * promised:
            radius *= _GROW
        moved = current if reached is None or gained <= 0.0 else reached
        return replace(moved, radius=radius)

    def solution(self, end: Iterate, axis_weights: Mapping[str, float], stream: int) -> Tensor:
        """Knots to end with, (n_knots * n_sources,): of low loss within the radius, near the prior.

        Steps are taken under all of the noise and without the prior's penalty; a solution has half
        of the noise, and the penalty keeps what no probe asks about near the prior.
        """
        noise, prior_l2 = _LAST_NOISE * self._config.noise, self._config.pull
        return self._minimise(end, axis_weights, stream, noise=noise, prior_l2=prior_l2)

    def _minimise(
        self,
        current: Iterate,
        axis_weights: Mapping[str, float],
        stream: int,
        *,
        noise: float,
        prior_l2: float,
    ) -> Tensor:
        region = TrustRegion(current.point.at, current.radius, self._bounds)
        regular = Regularisation(self._losses.prior, prior_l2, noise, self._seed + stream)
        return self._surrogate.minimise(axis_weights, region, regular)

    def linearise(self, knots: Tensor) -> Iterate | None:
        """Take losses and gradients at some knots into the surrogate.

        Returns:
            The iterate there, with the radius of a first step; None where they are not finite.
        """
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


def _weighted(losses: Mapping[str, float], axis_weights: Mapping[str, float]) -> float:
    return sum(axis_weights[axis] * loss for axis, loss in losses.items())
