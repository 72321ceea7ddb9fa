"""The sampler of a study: by a short name, or any class of Optuna's kind by its import path."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any, Literal

from safemerge.errors import ConfigError, MissingDependency, near_names, require
from search.config import StudyConfig
from search.config.search import SAMPLERS
from search.metrics import Directions

if TYPE_CHECKING:
    import optuna


_NEEDS = {"cmaes": "cmaes", "gp": "scipy"}


def make_sampler(
    study: StudyConfig, seed: int, *, n_before: int = 0, worker: int = 0
) -> optuna.samplers.BaseSampler:
    """The configured sampler; `sampler_options` override what it is given here.

    Args:
        seed: of the run; a resumed sampler draws on from another one, and so does each worker.
        n_before: trials that the study has already.

    Raises:
        ConfigError: a path that leads to no sampler, or options that it does not take.
        MissingDependency: a sampler whose package is not installed.
    """
    # After a start the random trials that model-based samplers begin with would be wasted.
    started = study.warm_start.steps > 0 or study.start_from is not None
    startup = study.warm_start.scalarizations if started else 10
    defaults: dict[str, dict[str, Any]] = {
        "blend": {"n_startup_trials": 2 if started else 10},
        "gp": {"n_startup_trials": startup},
        # Trials under way count as bad, so that workers draw apart.
        "tpe": {
            "multivariate": True,
            "n_startup_trials": startup,
            "constant_liar": study.workers > 1,
        },
    }
    if study.sampler in _NEEDS:
        require(_NEEDS[study.sampler], extra="samplers")
    kind = _imported(SAMPLERS.get(study.sampler, study.sampler))
    options = defaults.get(study.sampler, {})
    if "seed" in inspect.signature(kind).parameters:
        options["seed"] = (seed * 100_003 + n_before + worker * 1_000_003) % 2**32
    try:
        sampler: optuna.samplers.BaseSampler = kind(**{**options, **study.sampler_options})
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(
            f"search.sampler = {study.sampler!r} cannot be made with search.sampler_options = "
            f"{study.sampler_options}: {error}"
        ) from error
    return sampler


def check_sampler(study: StudyConfig, directions: Directions) -> None:
    """Try the sampler on two made-up trials; a ConfigError where it cannot serve the objectives."""
    import optuna

    made_up = optuna.create_study(
        directions=optuna_directions(directions), sampler=make_sampler(study, 0)
    )
    try:
        for _ in range(2):
            trial = made_up.ask()
            for name in ("x", "y"):
                trial.suggest_float(name, 0.0, 1.0)
            made_up.tell(trial, [0.5] * len(directions))
    # Whatever a foreign class raises, the choice of that class was wrong.
    except Exception as error:
        raise ConfigError(
            f"search.sampler = {study.sampler!r} cannot search {', '.join(directions)}: {error}"
        ) from error


def optuna_directions(directions: Directions) -> list[Literal["minimize", "maximize"]]:
    return ["maximize" if larger else "minimize" for larger in directions.values()]


def _imported(path: str) -> Any:
    from optuna.samplers import BaseSampler

    module_name, _, name = path.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), name)):
        raise ConfigError(
            f"search.sampler = {path!r} is no import path of a class; write package.module:Class"
        )
    try:
        module = importlib.import_module(module_name)
    # A module may raise anything, or try to end the process, while it is imported.
    except (Exception, SystemExit) as error:
        raise MissingDependency(
            f"search.sampler = {path!r}: cannot import {module_name!r} "
            f"({str(error) or type(error).__name__}); install it, or "
            "correct the path, package.module:Class"
        ) from error
    kind = getattr(module, name, None)
    if not (isinstance(kind, type) and issubclass(kind, BaseSampler)):
        known = [
            key
            for key, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, BaseSampler)
        ]
        hint = near_names(name, known) if known else "it has none"
        raise ConfigError(
            f"search.sampler = {path!r}: {name!r} is no sampler of {module_name!r}; {hint}"
        )
    return kind
