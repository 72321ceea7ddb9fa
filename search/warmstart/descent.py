"""Trust-region descent on a model of the probe losses, by gradients through the merge.

The merged model is a differentiable function of its merge weights, so one backward pass over a
group of probes gives all of them at once, d loss / d w[g, s] = <dL/dW_g, d W_g / d w[g, s]>. A pass
over all probes, group by group, is a linearisation (`linearised.py`): a model of every group's loss
that is good enough to go far. A step finds the model's least loss within a radius and linearises
there; the radius grows where the model foresaw the gain and shrinks where it did not. All that was
ever linearised stays in the model.

Validation probes, of which no gradient is taken, say when to stop: the descent goes back to where
they and the search probes together had the least loss. They alone are too few: a lucky answer of
thirteen would end it after two steps. On eight searches of four worlds the balanced recipe answered
97.8 % of held-out prompts after nine steps, and 96.7 % after 44, which fitted the search probes
better.
Ours (design.md, "what makes a trial cheap", 5); trust region and early stopping are textbook.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from safemerge.live import LiveGradient
from safemerge.recipe import Recipe
from safemerge.resident import ResidentMerge
from search.config import WarmStartConfig
from search.runs.rundir import RunDir
from search.space.space import Space
from search.warmstart.linearised import Linearisation, LinearisedLosses
from synth.engines.batches import Batch, answer_logprobs
from synth.engines.transformers import TransformersEngine
from synth.probes.probe import Probe

LINEARISATIONS = "warmstart"  # folder of a run, while its warm start is under way
_RANK_STEP = 2.0
_FORESEEN, _MISSED = 0.75, 0.25  # share of a promised gain that makes the radius grow, or shrink
_GROW, _SHRINK = 1.5, 0.5
_LAST_NOISE = 0.5  # of the noise of the steps, in what a descent ends with


@dataclass(frozen=True, slots=True)
class Group:
    """Some probes of one axis, tokenised: one backward pass."""

    axis: str
    batches: tuple[Batch, ...]
    size: int


def grouped(
    engine: TransformersEngine, probes: Sequence[Probe], axes: Sequence[str], size: int, seed: int
) -> list[Group]:
    """All probes of the axes, shuffled, in groups of `size` of one axis; the last has the rest."""
    groups = []
    for axis in axes:
        rows = [probe for probe in probes if probe.axis == axis]
        random.Random(f"{seed}/{axis}").shuffle(rows)
        for start in range(0, len(rows), size):
            pairs = [(probe.prompt, probe.answer) for probe in rows[start : start + size]]
            groups.append(Group(axis, engine.encode(pairs), len(pairs)))
    return groups


@dataclass(frozen=True, slots=True)
class State:
    """Where a descent is: the best linearised point so far, and how far the model is trusted.

    Args:
        point: at the knots of the weights, flattened.
        losses: mean over all probes there, of the search and for validation, by axis.
        radius: most that a step may change a knot, in weight units.
    """

    point: Linearisation
    losses: Mapping[str, float]
    radius: float


class Descent:
    """Trust-region steps on the weights' knots of a space; all else is as where it begins.

    Attributes:
        prior: (n_knots * n_sources,), the knots of the recipe that it begins with.
    """

    def __init__(
        self,
        engine: TransformersEngine,
        resident: ResidentMerge,
        space: Space,
        begin: Recipe,
        groups: Sequence[Group],
        validation: Sequence[Group],
        config: WarmStartConfig,
        whole: bool,
        home: RunDir | None,
    ) -> None:
        """Begin; nothing is measured yet.

        Args:
            engine, resident, space, begin, config, whole, home: as in `warm_start`.
            groups: of the search probes, of which losses and gradients are taken.
            validation: groups of the validation probes, of which losses are taken.
        """
        self._engine = engine
        self._resident = resident
        self._live = LiveGradient(engine.model, resident)
        self._space = space
        self._groups = groups
        self._validation = validation
        self._config = config
        self._whole = whole
        self._home = home
        self._made = 0
        if config.rank_ratio is not None:
            ratios = dict.fromkeys(begin.rank_ratio, config.rank_ratio)
            begin = space.adjusted(begin, rank_ratios=ratios)
        self._begin = begin
        self._basis = torch.tensor(space.basis(), dtype=torch.float32)  # (n_place_groups, n_knots)
        self._losses = LinearisedLosses([group.axis for group in groups])
        self.prior = torch.tensor(space.knots(begin), dtype=torch.float32).flatten()

    def run(
        self,
        start: State,
        emphasis: Mapping[str, float],
        steps: int,
        seed: int,
        on_step: Callable[[], None],
    ) -> State:
        """Where some steps lead by the loss with these emphases of the axes.

        Stops sooner, and goes back, where `patience` steps have not lowered the loss of search and
        validation probes together; without validation probes it takes all steps.

        Args:
            start: where it sets out.
            emphasis: `{axis: factor on its loss}`.
            steps: most that are taken.
            seed: of the noise.
            on_step: called after every step.
        """
        state = best = start
        waited = 0
        for _ in range(steps):
            if self._validation and waited == self._config.patience:
                break
            state = self._step(state, emphasis, seed)
            on_step()
            loss, least = (_loss_of_all(at, emphasis) for at in (state, best))
            waited = 0 if loss < least else waited + 1
            if loss <= least:
                best = state
        return best

    def _step(self, state: State, emphasis: Mapping[str, float], seed: int) -> State:
        target = self._least(state, emphasis, seed, noise=self._config.noise, pull=0.0)
        now = self._losses.loss(state.point.margins, emphasis)
        promised = (now - self._losses.loss(self._losses.margins(target), emphasis)).item()
        reached = self.linearise(target)
        gained = -torch.inf
        if reached is not None:
            gained = (now - self._losses.loss(reached.point.margins, emphasis)).item()
        radius = state.radius
        # What is least under noise may promise nothing without it.
        if promised <= 0.0 or gained < _MISSED * promised:
            radius *= _SHRINK
        elif gained > _FORESEEN * promised:
            radius *= _GROW
        moved = state if reached is None or gained <= 0.0 else reached
        return replace(moved, radius=radius)

    def solution(self, state: State, emphasis: Mapping[str, float], seed: int) -> Tensor:
        """Knots to end with, (n_knots * n_sources,): of low loss within the radius, near the prior.

        Steps are taken with all of the noise and no pull, so that they lead to where a recipe is
        good with its neighbours; what ends there needs half of the noise, and keeps more of what no
        probe asks about by staying near the prior.
        """
        noise, pull = _LAST_NOISE * self._config.noise, self._config.pull
        return self._least(state, emphasis, seed, noise=noise, pull=pull)

    def _least(
        self,
        state: State,
        emphasis: Mapping[str, float],
        seed: int,
        *,
        noise: float,
        pull: float,
    ) -> Tensor:
        return self._losses.minimise(
            emphasis,
            centre=state.point.at,
            radius=state.radius,
            prior=self.prior,
            pull=pull,
            noise=noise,
            bounds=self._space.ranges.weight,
            seed=seed,
        )

    def linearise(self, knots: Tensor) -> State | None:
        """Losses of all groups and their gradients at some knots; the model keeps them.

        None, and nothing is kept, where they are not finite: a merge that overflows. The state that
        is returned has the radius of a first step.
        """
        name = f"{LINEARISATIONS}/{self._made:03d}.json"
        self._made += 1
        record = None if self._home is None else self._home.read(name)
        if record is None or record["at"] != knots.tolist():
            record = {"at": knots.tolist(), **self._measure(knots)}
            if self._home is not None:
                self._home.write(name, record)
        if record["losses"] is None:
            return None
        losses, gradients = (torch.tensor(record[key]) for key in ("losses", "gradients"))
        point = Linearisation.of_losses(knots, losses, gradients)
        self._losses.add(point)
        low, high = self._space.ranges.weight
        return State(point, self._of_all(record), self._config.radius * (high - low))

    def _measure(self, knots: Tensor) -> dict[str, Any]:
        """Of the groups of search probes `losses` (n_groups,) and `gradients` (n_groups, n_knots *
        n_sources); `validation`, the losses of the groups of validation probes.
        """
        losses: list[float] = []
        gradients: list[list[float]] = []
        with self._live.at(self.recipe(knots)) as by_place:
            for group in self._groups:
                losses.append(self._backward(group))
                own = by_place.to(self._basis)  # (n_place_groups, n_sources)
                gradients.append((self._basis.T @ own).flatten().tolist())
                by_place.zero_()
            with torch.no_grad():
                validation = [
                    sum(self._loss(batch).item() for batch in group.batches) / group.size
                    for group in self._validation
                ]
        if not all(map(math.isfinite, chain(losses, *gradients, validation))):
            return {"losses": None, "gradients": None, "validation": None}
        return {"losses": losses, "gradients": gradients, "validation": validation}

    def _backward(self, group: Group) -> float:
        """The mean loss of a group; its gradient goes where `LiveGradient` collects it."""
        total = 0.0
        for batch in group.batches:
            loss = self._loss(batch) / group.size
            torch.autograd.backward(loss)
            total += loss.item()
        return total

    def _of_all(self, record: Mapping[str, Any]) -> dict[str, float]:
        """The mean loss of an axis over search and validation probes, from a record of both."""
        groups = [*self._groups, *self._validation]
        totals, sizes = Counter[str](), Counter[str]()
        for group, loss in zip(groups, record["losses"] + record["validation"], strict=True):
            totals[group.axis] += loss * group.size
            sizes[group.axis] += group.size
        return {axis: total / sizes[axis] for axis, total in totals.items()}

    def _loss(self, batch: Batch) -> Tensor:
        """The sum over a batch of the loss of each answer."""
        logits = self._engine.model(**batch.model_kwargs()).logits
        logprob, tokens, _ = answer_logprobs(logits, batch)
        return -(logprob if self._whole else logprob / tokens).sum()

    def other_ratios(self) -> list[float]:
        """Factors on the rank ratios of this descent that keep most of them within their range."""
        low, high = self._space.ranges.rank_ratio
        ratios = self._begin.rank_ratio.values()
        factors = (1.0 / _RANK_STEP, _RANK_STEP)
        return [f for f in factors if 2 * sum(low <= f * r <= high for r in ratios) > len(ratios)]

    def recipe(self, knots: Tensor, rank_factor: float = 1.0) -> Recipe:
        """The recipe at these knots, with the rank ratios of this descent times a factor."""
        rows = (self._basis @ knots.view(self._basis.shape[1], -1)).tolist()
        names = self._resident.source_names
        weights = {
            group: dict(zip(names, row, strict=True))
            for group, row in zip(self._resident.groups, rows, strict=True)
        }
        ratios = {group: rank_factor * r for group, r in self._begin.rank_ratio.items()}
        return self._space.adjusted(self._begin, weights=weights, rank_ratios=ratios)


def _loss_of_all(state: State, emphasis: Mapping[str, float]) -> float:
    return sum(emphasis[axis] * loss for axis, loss in state.losses.items())
