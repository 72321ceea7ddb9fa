"""Gradient warm start: a descent to a balanced recipe, then one to each of several trade-offs.

Losses of several axes are added up (linear scalarization), limited ones with weight 1, and as one
of these how the base begins its replies to general prompts. They are
negative logarithms, so the axis that fails most weighs most. Ranks are not descended: at the end
the balanced recipe is tried at half and at twice its rank ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from safemerge.errors import SafemergeError
from safemerge.recipe import Recipe
from safemerge.resident import ResidentMerge
from search.config import WarmStartConfig
from search.runs.rundir import RunDir
from search.space.space import Space
from search.warmstart.descent import Descent, Scalarization
from search.warmstart.probe_losses import GENERAL, LossGroups, ProbeLosses, grouped
from synth.engines.transformers import TransformersEngine
from synth.probes.probe import Probe

_CENTRE = 2 / 3  # share of the steps that go into the balanced recipe, at least
_OTHERS = 0.5  # weight of the objectives that are not favoured; its powers go further out
_LEAST_RADIUS = 0.05  # of what is solved for at the end, as a share of the range of weights


@dataclass(frozen=True, slots=True)
class WarmStart:
    """What a warm start works on."""

    engine: TransformersEngine
    resident: ResidentMerge
    space: Space
    begin: Recipe  # of the space: its weights are the prior, all else is as in it
    probes: Sequence[Probe]  # search probes; every axis named below must have some
    validation: Sequence[Probe]  # they help to say when to stop, of these axes or not; may be empty
    objectives: Sequence[str]  # probe axes, which the scalarizations trade
    limited: Sequence[str]  # probe axes under a limit, each with weight 1 in every loss
    sum_over_tokens: bool  # the loss is of the whole answer, not the mean over its tokens
    seed: int  # of the grouping of the probes, and of the noise
    # General prompts with the base's replies, which count as an axis under a limit; may be empty
    general: Sequence[tuple[str, str]] = ()

    def losses(self, axes: Sequence[str], config: WarmStartConfig) -> ProbeLosses:
        """The losses of these axes, at the rank ratio of the config where it has one."""
        begin = self.begin
        if config.rank_ratio is not None:
            ratios = dict.fromkeys(begin.rank_ratio, config.rank_ratio)
            begin = self.space.adjusted(begin, rank_ratios=ratios)
        search, validation = (
            grouped(self.engine, pairs, config.batch, self.seed)
            for pairs in (
                axis_pairs(self.probes, axes)
                | ({GENERAL: self.general} if GENERAL in axes else {}),
                axis_pairs(self.validation, axes),
            )
        )
        groups = LossGroups(search, validation, self.sum_over_tokens)
        return ProbeLosses(self.engine, self.resident, self.space, begin, groups)


def warm_start(
    start: WarmStart,
    config: WarmStartConfig,
    home: RunDir | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Recipe], int]:
    """Recipes to enqueue, the balanced one first, and the steps that they took.

    Args:
        start: models, space, probes and axes.
        config: [search.warm_start].
        home: a run that keeps every linearisation, so that after a kill none is made twice.
        progress: called with (steps done, steps in all).

    Raises:
        SafemergeError: where losses or gradients at the prior are not finite.
    """
    limited = [axis for axis in start.limited if axis not in start.objectives]
    if start.general and (limited or start.objectives):
        limited.append(GENERAL)
    axes = [*start.objectives, *limited]
    if config.steps == 0 or not axes:
        return [], 0
    balanced, *tilted = (
        Scalarization(dict.fromkeys(limited, 1.0) | objectives, start.seed + i)
        for i, objectives in enumerate(scalarizations(start.objectives, config.scalarizations))
    )
    steps_of_each = int((1 - _CENTRE) * config.steps) // max(1, len(tilted))
    steps_of_first = config.steps - steps_of_each * len(tilted)
    losses = start.losses(axes, config)
    descent = Descent(losses, config, home)
    done = 0

    def on_step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, config.steps)

    prior = descent.linearise(losses.prior)
    if prior is None:
        raise SafemergeError(
            "the merge at the prior gives losses or gradients that are not finite, so a warm start "
            "has nowhere to begin; choose another space.prior or search.start_from, or set "
            "search.warm_start.steps = 0"
        )
    on_step()
    centre = descent.run(prior, balanced, steps_of_first - 1, on_step)
    low, high = start.space.ranges.weight
    centre = replace(centre, radius=max(centre.radius, _LEAST_RADIUS * (high - low)))
    solutions = [descent.solution(centre, balanced)]
    for goal in tilted:
        end = descent.run(centre, goal, steps_of_each, on_step)
        solutions.append(descent.solution(end, goal))
    recipes = [losses.recipe(knots) for knots in solutions]
    recipes += [losses.recipe(solutions[0], factor) for factor in losses.rank_factors()]
    return recipes, done


def axis_pairs(probes: Sequence[Probe], axes: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """`{axis: (prompt, answer) pairs}` of probes."""
    return {
        axis: [(probe.prompt, probe.answer) for probe in probes if probe.axis == axis]
        for axis in axes
        if axis != GENERAL
    }


def scalarizations(objectives: Sequence[str], count: int) -> list[dict[str, float]]:
    """`{objective: weight}`s: all equal, then one objective favoured at a time."""
    weights = [dict.fromkeys(objectives, 1.0)]
    for i in range(count - 1 if len(objectives) > 1 else 0):
        favoured = objectives[i % len(objectives)]
        others = _OTHERS ** (1 + i // len(objectives))
        weights.append({axis: 1.0 if axis == favoured else others for axis in objectives})
    return weights
