"""The sampler of a study: by a short name, or any class of Optuna's kind by its import path."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from safemerge.errors import ConfigError, MissingDependency, near_names, require
from search.config import SearchConfig

if TYPE_CHECKING:
    import optuna


def make_sampler(
    config: SearchConfig, n_before: int = 0, worker: int = 0
) -> optuna.samplers.BaseSampler:
    """The configured sampler; a resumed one draws on from another seed, not the same again.

    Args:
        n_before: trials that the study has already.
        worker: number of the process; each draws from another seed.

    Raises:
        ConfigError: a path that leads to no sampler, or options that it does not take.
        MissingDependency: a sampler whose package is not installed, with the install line.
    """
    from optuna import samplers

    study = config.search
    seed = (config.seed * 100_003 + n_before + worker * 1_000_003) % 2**32
    options: dict[str, Any] = {"seed": seed}
    # After a start the random trials that model-based samplers begin with would be wasted.
    started = study.warm_start.steps > 0 or study.start_from is not None
    startup = study.warm_start.ring if started else 10
    match study.sampler:
        case "blend":
            kind = importlib.import_module("search.samplers.blend").FrontBlend
            options |= {"n_startup_trials": 2 if started else 10}
        case "tpe":
            kind = samplers.TPESampler
            # Trials under way count as bad, so that workers draw apart.
            liar = study.workers > 1
            options |= {"multivariate": True, "n_startup_trials": startup, "constant_liar": liar}
        case "gp":
            require("scipy", extra="samplers")
            kind = samplers.GPSampler
            options |= {"n_startup_trials": startup}
        case "nsga2":
            kind = samplers.NSGAIISampler
        case "nsga3":
            kind = samplers.NSGAIIISampler
        case "cmaes":
            require("cmaes", extra="samplers")
            kind = importlib.import_module("search.samplers.chebyshev_cmaes").ChebyshevCmaEs
        case "random":
            kind = samplers.RandomSampler
        case path:
            kind = _imported(path)
            if "seed" not in inspect.signature(kind).parameters:
                options = {}
    try:
        sampler: optuna.samplers.BaseSampler = kind(**{**options, **study.sampler_options})
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(
            f"search.sampler = {study.sampler!r} cannot be made with search.sampler_options = "
            f"{study.sampler_options}: {error}"
        ) from error
    return sampler


def check_sampler(config: SearchConfig) -> None:
    """Try the sampler on two made-up trials, before any work.

    Raises:
        ConfigError: as `make_sampler`; or a sampler that cannot serve this number of objectives.
    """
    import optuna

    sampler = make_sampler(config)
    study = optuna.create_study(
        directions=["maximize" if up else "minimize" for up in config.directions.values()],
        sampler=sampler,
    )
    try:
        for _ in range(2):
            trial = study.ask()
            for name in ("x", "y"):
                trial.suggest_float(name, 0.0, 1.0)
            study.tell(trial, [0.5] * len(config.directions))
    # Whatever a foreign class raises, the choice of that class was wrong.
    except Exception as error:
        objectives = ", ".join(config.directions)
        raise ConfigError(
            f"search.sampler = {config.search.sampler!r} cannot search {objectives}: {error}"
        ) from error


def _imported(path: str) -> Any:
    """The class at `package.module:Class`, a sampler."""
    from optuna.samplers import BaseSampler

    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise MissingDependency(
            f"search.sampler = {path!r}: cannot import {module_name!r} ({error}); install it, or "
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
