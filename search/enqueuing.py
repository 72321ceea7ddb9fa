"""What is tried before the sampler draws: prior, another run's front, given recipes, warm start.

Each goes into the study once, whatever was killed in between. A search may start from another run,
`search.start_from`: few numbers first and finer later, or the same ones with other probes. Its pick
and its front are tried, as near as this space has them, and the warm start sets out from the pick,
towards which it is drawn back. Both are read once and kept in `start.json`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from safemerge.errors import RecipeError, RunError
from safemerge.recipe import Recipe
from search.config import SearchConfig
from search.descent import LINEARISATIONS
from search.interrupts import uninterrupted
from search.objectives import probe_axes
from search.progress import Report
from search.run import Run
from search.rundir import RunDir
from search.setup import Workbench
from search.space import Space
from search.storage import quiet_optuna
from search.warmstart import STEP_COST, warm_start

if TYPE_CHECKING:
    import optuna

_START = "start.json"
_SHARE = 0.25  # of the trials that another run's front may take


def starting_recipes(home: RunDir, config: SearchConfig) -> list[Recipe]:
    """The pick of the run to start from, then points of its front, as they were first read.

    Args:
        home: the run, which may have them already.
        config: `search.start_from`; without it there are none.

    Raises:
        RunError: where that folder is no run, or has no finished trial.
    """
    if config.search.start_from is None:
        return []
    record = home.read(_START)
    if record is not None:
        return [Recipe.from_json(text, where=_START) for text in record["recipes"]]
    try:
        other = Run.load(config.search.start_from)
        pick = other.pick()
    except RunError as error:
        raise RunError(f"search.start_from: {error}") from error
    front = [point.recipe for point in other.front().points if point.number != pick.number]
    most = max(1, int(_SHARE * config.search.trials)) - 1
    return [pick.recipe, *_spread(front, most)]


def placed(space: Space, recipes: Sequence[Recipe], config: SearchConfig) -> list[Recipe]:
    """The recipes of a space that are nearest to those to start from.

    Raises:
        RunError: where one has no place there: other sources, or a method that is not searched.
    """
    try:
        return [space.recipe(space.coordinates(recipe)) for recipe in recipes]
    except RecipeError as error:
        raise RunError(f"search.start_from = {config.search.start_from}: {error}") from error


def enqueue_first(
    home: RunDir,
    study: optuna.Study,
    config: SearchConfig,
    bench: Workbench,
    started: Sequence[Recipe],
    given: Callable[[Workbench], Sequence[Recipe]] | None,
    report: Report,
) -> None:
    """Enqueue all that comes before the sampler, and run the warm start where there is one.

    Args:
        home: the run, which this process holds.
        study: its study.
        config: its configuration.
        bench: models and space.
        started: what `starting_recipes` found, `placed`.
        given: makes the recipes that the caller wants tried; None where it wants none.
        report: called at every step of the warm start.
    """
    begin = bench.space.beginning()
    # A warm start has all probes answered there, and leads away from it.
    if bench.space.ranges.prior and config.search.warm_start.steps == 0:
        _enqueue(study, [bench.space.coordinates(begin)])
    if started:
        if home.read(_START) is None:
            home.write(_START, {"recipes": [recipe.canonical_json() for recipe in started]})
        _enqueue(study, [bench.space.coordinates(recipe) for recipe in started])
        begin = started[0]
    if given is not None:
        _enqueue_given(study, bench, given(bench))
    _enqueue_warm_start(home, study, config, bench, begin, report)


def _spread(recipes: Sequence[Recipe], most: int) -> list[Recipe]:
    """At most so many of them, evenly over their order, both ends included."""
    if len(recipes) <= most or most < 2:
        return list(recipes[:most])
    step = (len(recipes) - 1) / (most - 1)
    return [recipes[round(i * step)] for i in range(most)]


def _enqueue(study: optuna.Study, points: Sequence[dict[str, float | str]]) -> None:
    with uninterrupted(), quiet_optuna():
        for point in points:
            study.enqueue_trial(point, skip_if_exists=True)


def _enqueue_given(study: optuna.Study, bench: Workbench, recipes: Sequence[Recipe]) -> None:
    """Enqueue the recipes that are neither finished nor waiting; one that failed is tried again."""
    from optuna.trial import TrialState

    with uninterrupted(), quiet_optuna():
        for recipe in recipes:
            point = bench.space.coordinates(recipe)
            states = (TrialState.COMPLETE, TrialState.WAITING)
            known = study.get_trials(deepcopy=False, states=states)
            if not any(trial.system_attrs.get("fixed_params") == point for trial in known):
                study.enqueue_trial(point)


def _enqueue_warm_start(
    home: RunDir,
    study: optuna.Study,
    config: SearchConfig,
    bench: Workbench,
    begin: Recipe,
    report: Report,
) -> None:
    if config.search.warm_start.steps == 0 or study.user_attrs.get("warm_started"):
        return
    record = home.read("warmstart.json")
    if record is None:
        recipes, steps = warm_start(
            bench.engine,
            bench.resident(begin),
            bench.space,
            begin,
            bench.search_probes,
            bench.probes.split("validation").probes,
            objectives=config.objective_axes,
            limited=probe_axes(config.limits),
            config=config.search.warm_start,
            whole=config.probes.likelihood == "answer",
            seed=config.seed,
            home=home,
            progress=lambda done, total: report("warm start", done, total, ""),
        )
        record = {
            "evaluations": STEP_COST * steps,
            "points": [bench.space.coordinates(recipe) for recipe in recipes],
        }
        home.write("warmstart.json", record)
        # The points are written: a folder that cannot be removed is in nobody's way.
        shutil.rmtree(home.path / LINEARISATIONS, ignore_errors=True)
    with uninterrupted(), quiet_optuna():
        for point in record["points"]:
            study.enqueue_trial(point, skip_if_exists=True)
        study.set_user_attr("warm_started", True)
