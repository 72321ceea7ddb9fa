"""Gradient warm start: descend the probe loss with respect to the recipe's weights.

The merged model is a differentiable function of its merge weights, so one backward pass gives all
of them at once, d loss / d w[g, s] = <dL/dW_g, d W_g / d w[g, s]>. Adam descends a balanced sum of
losses first; from its end, short descents with one objective emphasised spread a ring of recipes
along the front. Ranks are held at one ratio. Ours (design.md, "what makes a trial cheap", 5).

A hundred weights learn a few hundred probes by heart. What holds for prompts that were not searched
on is found by a falling learning rate, noise on the weights in every step (a recipe must be good
with its neighbours) and a slight pull back to where the search begins.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from safemerge.live import LiveGradient
from safemerge.recipe import Recipe
from safemerge.resident import ResidentMerge
from search.config import WarmStartConfig
from search.space import Space
from synth.engines.batches import Batch, answer_logprobs
from synth.engines.transformers import TransformersEngine
from synth.probes import Probe

STEP_COST = 3  # evaluations that one gradient step is charged as: a forward and a backward pass
_STEP_TOKENS = 16384  # in one backward pass: every pass projects all gradients once
_CENTRE = 2 / 3  # share of the steps that go into the balanced recipe
_LAST_RATE = 0.05  # learning rate at the end of a descent, as a share of the first
_REACH = 0.25  # share of the range of weights that the first descent can cross
_RING_RATE = 0.4  # learning rate of the ring's descents, as a share of the first one's
_EMPHASIS = 0.5  # factor on the other objectives of a ring point; its powers go further out


@dataclass(frozen=True, slots=True)
class _Minibatch:
    """A few probes of every axis, tokenised: batches and the axis of each row."""

    batches: tuple[Batch, ...]
    axes: tuple[str, ...]


def warm_start(
    engine: TransformersEngine,
    resident: ResidentMerge,
    space: Space,
    probes: Sequence[Probe],
    *,
    objectives: Sequence[str],
    limited: Sequence[str],
    config: WarmStartConfig,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Recipe]:
    """Recipes to enqueue, the balanced one first.

    Args:
        engine: whose model gives the loss; merges are written into it.
        resident: the merge, over the same groups as `space`.
        space: ranges to stay in.
        probes: search probes; every axis named below must have some.
        objectives: probe axes of the objectives; the ring trades them against each other.
        limited: probe axes under a limit, each with weight 1 in every loss.
        config: steps, ring, learning rate, batch.
        seed: of the order of the probes.
        progress: called with (steps done, steps in all).
    """
    limited = [axis for axis in limited if axis not in objectives]
    axes = [*objectives, *limited]
    if config.steps == 0 or not axes:
        return []
    minibatches = _minibatches(engine, probes, axes, config.batch, seed)
    ring = _ring(tuple(objectives), config.ring)
    first = config.steps if len(ring) == 1 else max(1, round(_CENTRE * config.steps))
    rest = (config.steps - first) // max(1, len(ring) - 1)
    least, most = space.ranges.rank_ratio
    ratio = config.rank_ratio or (least * most) ** 0.5
    low, high = space.ranges.weight
    descent = _Descent(engine, resident, space, minibatches, config, ratio, seed)
    done = 0

    def on_step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, config.steps)

    limits = dict.fromkeys(limited, 1.0)
    rate = _first_rate(config.learning_rate, first, high - low)
    centre = descent.run(descent.start(), {**limits, **ring[0]}, first, 0, rate, on_step)
    found = [centre]
    for i, emphasis in enumerate(ring[1:]):
        offset = first + i * rest
        weights = {**limits, **emphasis}
        rate = _RING_RATE * config.learning_rate
        found.append(descent.run(centre, weights, rest, offset, rate, on_step))
    return [descent.recipe(state.knots) for state in found]


def _first_rate(wanted: float, steps: int, width: float) -> float:
    """Learning rate with which a descent of few steps still gets somewhere.

    Adam moves a weight by at most its rate in a step, so a rate that falls to a twentieth over n
    steps leads no further than 0.525 n times the first one.

    Args:
        wanted: as configured; larger ones are kept.
        steps: of the descent.
        width: of the range of weights, a quarter of which should be in reach.
    """
    return max(wanted, _REACH * width / ((1 + _LAST_RATE) / 2 * max(1, steps)))


def _ring(objectives: tuple[str, ...], size: int) -> list[dict[str, float]]:
    """Loss weights of each scalarisation: all equal, then one objective emphasised at a time."""
    ring = [dict.fromkeys(objectives, 1.0)]
    if len(objectives) == 1:
        return ring
    for i in range(size - 1):
        favoured = objectives[i % len(objectives)]
        others = _EMPHASIS ** (1 + i // len(objectives))
        ring.append({axis: 1.0 if axis == favoured else others for axis in objectives})
    return ring


def _minibatches(
    engine: TransformersEngine, probes: Sequence[Probe], axes: Sequence[str], size: int, seed: int
) -> list[_Minibatch]:
    """The probes in shuffled minibatches with `size` of every axis; short axes repeat."""
    shuffled: dict[str, list[Probe]] = {}
    for axis in axes:
        shuffled[axis] = [probe for probe in probes if probe.axis == axis]
        random.Random(f"{seed}/{axis}").shuffle(shuffled[axis])
    count = max(1, max(len(rows) for rows in shuffled.values()) // size)
    minibatches = []
    for start in range(0, count * size, size):
        rows = [
            shuffled[axis][i % len(shuffled[axis])]
            for axis in axes
            for i in range(start, start + size)
        ]
        pairs = [(probe.prompt, probe.answer) for probe in rows]
        batches = engine.encode(pairs, batch_tokens=_STEP_TOKENS)
        minibatches.append(_Minibatch(batches, tuple(probe.axis for probe in rows)))
    return minibatches


@dataclass(frozen=True, slots=True)
class _State:
    """Where a descent is.

    Args:
        knots: (n_knots, n_sources), inside the range.
        moments: Adam's means of gradients and of their squares; empty at the start.
    """

    knots: Tensor
    moments: Mapping[str, Any]


class _Descent:
    """Adam on the weights' knots of a space, at one rank ratio."""

    def __init__(
        self,
        engine: TransformersEngine,
        resident: ResidentMerge,
        space: Space,
        minibatches: list[_Minibatch],
        config: WarmStartConfig,
        rank_ratio: float,
        seed: int,
    ) -> None:
        self._engine = engine
        self._resident = resident
        self._live = LiveGradient(engine.model, resident)
        self._space = space
        self._minibatches = minibatches
        self._config = config
        self._rank_ratio = rank_ratio
        self._noise = torch.Generator().manual_seed(seed)
        self._basis = torch.tensor(space.basis())  # (n_groups, n_knots)
        start = torch.tensor(list(space.start.values()), device=engine.device)
        self._prior = start.repeat(self._basis.shape[1], 1)  # (n_knots, n_sources)

    def start(self) -> _State:
        """The prior."""
        return _State(self._prior, {})

    def run(
        self,
        start: _State,
        axis_weights: Mapping[str, float],
        steps: int,
        offset: int,
        rate: float,
        on_step: Callable[[], None],
    ) -> _State:
        """The state after some steps at a falling rate, which go on with the moments of `start`.

        Without them, Adam's first steps change every knot by the whole rate: from a good recipe
        that is a jump at random.
        """
        low, high = self._space.ranges.weight
        knots = start.knots.clone().requires_grad_()
        optimiser = torch.optim.Adam([knots], lr=rate)
        optimiser.state[knots].update(copy.deepcopy(dict(start.moments)))
        falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, _LAST_RATE, max(1, steps))
        for step in range(steps):
            minibatch = self._minibatches[(offset + step) % len(self._minibatches)]
            knots.grad = self._gradient(knots.detach(), minibatch, axis_weights)
            optimiser.step()
            falling.step()
            with torch.no_grad():
                knots.clamp_(low, high)
            on_step()
        return _State(knots.detach(), dict(optimiser.state[knots]))

    def _gradient(
        self, knots: Tensor, minibatch: _Minibatch, axis_weights: Mapping[str, float]
    ) -> Tensor:
        """Of the weighted loss of one minibatch under noise, and of the pull; like `knots`."""
        noise = torch.randn(knots.shape, generator=self._noise).to(knots)
        factor = 1 + self._config.noise * noise
        counts = {axis: minibatch.axes.count(axis) for axis in axis_weights}
        share = [axis_weights[axis] / counts[axis] for axis in minibatch.axes]
        with self._live.at(self.recipe(knots * factor)) as by_group:
            for batch in minibatch.batches:
                logits = self._engine.model(**batch.model_kwargs()).logits
                logprob, tokens, _ = answer_logprobs(logits, batch)
                rows = torch.tensor([share[i] for i in batch.rows.tolist()]).to(logprob)
                torch.autograd.backward(-(rows * logprob / tokens).sum())
        pull = 2 * self._config.pull * (knots - self._prior)
        return factor * (self._basis.to(by_group).T @ by_group) + pull

    def recipe(self, knots: Tensor) -> Recipe:
        """The recipe at these knots and this descent's rank ratio."""
        rows = (self._basis.to(knots) @ knots).tolist()
        names = self._resident.source_names
        weights = {
            group: dict(zip(names, row, strict=True))
            for group, row in zip(self._resident.groups, rows, strict=True)
        }
        return self._space.plain(weights, self._rank_ratio)
