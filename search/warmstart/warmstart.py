"""Gradient warm start: a descent to a balanced recipe, and a ring around it along the front.

Losses of several axes are added up, limited ones with weight 1: they are negative logarithms, so
the axis that fails most weighs most, as with Chebyshev's, and every axis has a gradient everywhere.
One objective emphasised at a time gives a ring of recipes along the front, most of which the
descent's model (`descent.py`) knows without any further gradient; that model is also the surrogate
of the search, so no other one (MAP's quadratic, MERGE3's item responses) is kept beside it. The
descent leaves ranks as they are where it begins; at the end its balanced recipe is tried at half of
these ratios and twice as much. Ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from safemerge.errors import SafemergeError
from safemerge.recipe import Recipe
from safemerge.resident import ResidentMerge
from search.config import WarmStartConfig
from search.runs.rundir import RunDir
from search.space.space import Space
from search.warmstart.descent import Descent, grouped
from synth.engines.transformers import TransformersEngine
from synth.probes.probe import Probe

STEP_COST = 3  # evaluations that one gradient step is charged as: a forward and a backward pass
_CENTRE = 2 / 3  # share of the steps that go into the balanced recipe, at least
_EMPHASIS = 0.5  # factor on the other objectives of a ring point; its powers go further out
_LEAST_RADIUS = 0.05  # of what is solved for at the end, as a share of the range of weights


def warm_start(
    engine: TransformersEngine,
    resident: ResidentMerge,
    space: Space,
    begin: Recipe,
    probes: Sequence[Probe],
    validation: Sequence[Probe],
    *,
    objectives: Sequence[str],
    limited: Sequence[str],
    config: WarmStartConfig,
    whole: bool,
    seed: int,
    home: RunDir | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Recipe], int]:
    """Recipes to enqueue, the balanced one first, and the steps that they took.

    Args:
        engine: whose model gives the loss; merges are written into it.
        resident: the merge, over the same groups as `space`.
        space: ranges to stay in.
        begin: a recipe of the space: its weights are the prior, all else is as in it.
        probes: search probes; every axis named below must have some.
        validation: probes that help to say when to stop, of these axes or not; may be empty.
        objectives: probe axes of the objectives; the ring trades them against each other.
        limited: probe axes under a limit, each with weight 1 in every loss.
        config: steps, ring, batch, radius, noise, pull, patience.
        whole: the loss is of the whole answer, not the mean over its tokens.
        seed: of the grouping of the probes, and of the noise.
        home: a run that keeps every linearisation, so that after a kill none is made twice.
        progress: called with (steps done, steps in all).

    Raises:
        SafemergeError: where losses or gradients at the prior are not finite.
    """
    limited = [axis for axis in limited if axis not in objectives]
    axes = [*objectives, *limited]
    if config.steps == 0 or not axes:
        return [], 0
    ring = _ring(tuple(objectives), config.ring)
    each = int((1 - _CENTRE) * config.steps) // max(1, len(ring) - 1)
    first = config.steps - each * (len(ring) - 1)
    groups, kept = (
        grouped(engine, some, axes, config.batch, seed) for some in (probes, validation)
    )
    descent = Descent(engine, resident, space, begin, groups, kept, config, whole, home)
    done = 0

    def on_step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, config.steps)

    limits = dict.fromkeys(limited, 1.0)
    balanced = {**limits, **ring[0]}
    start = descent.linearise(descent.prior)
    if start is None:
        raise SafemergeError(
            "the merge at the prior gives losses or gradients that are not finite, so a warm start "
            "has nowhere to begin; choose another space.prior or search.start_from, or set "
            "search.warm_start.steps = 0"
        )
    on_step()
    centre = descent.run(start, balanced, first - 1, seed, on_step)
    low, high = space.ranges.weight
    centre = replace(centre, radius=max(centre.radius, _LEAST_RADIUS * (high - low)))
    found = [descent.solution(centre, balanced, seed)]
    for i, emphasis in enumerate(ring[1:], 1):
        weights = {**limits, **emphasis}
        end = descent.run(centre, weights, each, seed + i, on_step)
        found.append(descent.solution(end, weights, seed + i))
    recipes = [descent.recipe(knots) for knots in found]
    recipes += [descent.recipe(found[0], factor) for factor in descent.other_ratios()]
    return recipes, done


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
