"""What is tried before the sampler draws: prior, another run's front, given recipes, warm start.

Each enters the study once, whatever was killed in between; a given recipe again if it failed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence

import optuna
from optuna.trial import TrialState

from safemerge.recipe import Recipe
from search.config import SearchConfig
from search.config.search import STEP_COST
from search.metrics import RETENTION, probe_axes
from search.runs.start import Start
from search.runs.workbench import Workbench
from search.samplers.quiet_optuna import quiet_optuna
from search.space.parameter import Point
from search.space.space import Space
from search.study.context import StudyContext
from search.study.interrupts import uninterrupted
from search.warmstart.descent import LINEARISATIONS
from search.warmstart.warmstart import WarmStart, warm_start
from synth.progress import Report


def enqueue_first(
    context: StudyContext,
    config: SearchConfig,
    bench: Workbench,
    start: Start | None,
    given: Callable[[Workbench], Sequence[Recipe]] | None,
    report: Report,
) -> None:
    """Enqueue all that comes before the sampler, and run the warm start where there is one.

    `start` is taken over from another run; `given` makes the recipes that the caller wants tried.
    """
    study = context.study
    begin = bench.space.beginning()
    if start is not None:
        _enqueue(study, start.points)
        begin = bench.space.recipe(start.points[0])
    # A warm start has all probes answered there, and leads away from it.
    elif bench.space.ranges.prior and config.search.warm_start.steps == 0:
        _enqueue(study, [bench.space.coordinates(begin)])
    if given is not None:
        _enqueue_given(study, bench, given(bench))
    _enqueue_warm_start(context, config, bench, begin, report)


def _enqueue(study: optuna.Study, points: Sequence[Point]) -> None:
    with uninterrupted(), quiet_optuna():
        for point in points:
            study.enqueue_trial(dict(point), skip_if_exists=True)


def _enqueue_given(study: optuna.Study, bench: Workbench, recipes: Sequence[Recipe]) -> None:
    """Enqueue the recipes that are neither finished nor waiting; one that failed is tried again."""
    with uninterrupted(), quiet_optuna():
        for recipe in recipes:
            point = bench.space.coordinates(recipe)
            states = (TrialState.COMPLETE, TrialState.WAITING)
            known = study.get_trials(deepcopy=False, states=states)
            if not any(trial.system_attrs.get("fixed_params") == point for trial in known):
                study.enqueue_trial(point)


def _enqueue_warm_start(
    context: StudyContext, config: SearchConfig, bench: Workbench, begin: Recipe, report: Report
) -> None:
    home, study = context.home, context.study
    if config.search.warm_start.steps == 0 or study.user_attrs.get("warm_started"):
        return
    record = home.read("warmstart.json")
    if record is None:
        start = WarmStart(
            bench.engine,
            bench.resident(begin),
            bench.space,
            begin,
            bench.evaluator.probes,
            bench.probes.split("validation").probes,
            objectives=config.objective_axes,
            limited=probe_axes(config.limits),
            sum_over_tokens=config.probes.likelihood == "answer",
            seed=config.seed,
            general=_general(config, bench),
        )
        recipes, steps = warm_start(
            start,
            config.search.warm_start,
            home,
            progress=lambda done, total: report("warm start", done, total, ""),
        )
        # Where no objective and no limit speaks of an axis, as with degenerate alone, there is no
        # loss to descend on, and the search begins where the warm start would have.
        points = [bench.space.coordinates(recipe) for recipe in recipes or [begin]]
        record = {
            "evaluations": STEP_COST * steps,
            "points": points + _otherwise(points[0], bench.space),
        }
        home.write("warmstart.json", record)
        shutil.rmtree(home.path / LINEARISATIONS, ignore_errors=True)
    _enqueue(study, record["points"])
    with uninterrupted():
        study.set_user_attr("warm_started", True)


def _general(config: SearchConfig, bench: Workbench) -> Sequence[tuple[str, str]]:
    """General prompts with the base's replies, where a limit speaks of them and they are known."""
    known = bench.retained.divergences.get("search")
    return (
        known.pairs if known is not None and not config.limits.keys().isdisjoint(RETENTION) else ()
    )


def _otherwise(point: Point, space: Space) -> list[Point]:
    """The point with every other option of its choices."""
    return [
        {**point, name: option}
        for name, parameter in space.parameters.items()
        for option in parameter.options
        if option != point[name]
    ]
