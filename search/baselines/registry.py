"""The baselines that `--baseline` names: their runs, their rows, and what they need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from safemerge.errors import ConfigError, near_names, require
from search.baselines.ablations import random_search, without_safety
from search.baselines.evomm import evomm
from search.baselines.fitness import EXPERT, SAFETY, BaselineRun, fitness_weights
from search.baselines.grid import grid
from search.baselines.lm_cocktail import lm_cocktail
from search.baselines.slerp_pair import two_models
from search.config import SearchConfig
from search.results.run import Run
from synth.probes.probe import ProbeSet

PLAIN = ("random", "without_safety")
OVER_METHODS = ("evomm", "grid")
MIXTURE = ("h3fusion", "")  # as `parse_baselines` gives it; no search, and no merge
BASELINES = (*OVER_METHODS, "lm_cocktail", MIXTURE[0], *PLAIN)
METHODS = ("ties", "dare_ties", "slerp")


def parse_baselines(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """(baseline, method) pairs, each once; the method is "" where there is none to choose."""
    parsed: dict[tuple[str, str], None] = {}
    for text in names:
        name, colon, method = text.partition(":")
        if name not in BASELINES:
            raise ConfigError(f"unknown baseline {name!r}; {near_names(name, BASELINES)}")
        if colon and name not in OVER_METHODS:
            raise ConfigError(
                f"--baseline {text}: {name} has no method to choose; write --baseline {name}"
            )
        if colon and method not in METHODS:
            raise ConfigError(
                f"--baseline {text}: {name} does not run over {method!r}; "
                f"{near_names(method, METHODS)}"
            )
        methods = METHODS if name in OVER_METHODS and not colon else (method,)
        parsed.update(dict.fromkeys((name, method) for method in methods))
    return tuple(parsed)


def check_baselines(
    requested: Sequence[tuple[str, str]], config: SearchConfig, probes: ProbeSet
) -> None:
    """Refuse what could not run after the search, before it begins."""
    axes = {probe.axis for probe in probes.split("search").probes}
    for name, _ in requested:
        if name == "without_safety" and without_safety(config) is None:
            raise ConfigError(
                f"--baseline without_safety: without {SAFETY} this search would have no other "
                "objective, or be the same; leave it out"
            )
        for axis in () if name in (*PLAIN, MIXTURE[0]) else (SAFETY, EXPERT):
            if axis not in axes:
                raise ConfigError(
                    f"--baseline {name}: {config.probes.path} has no search probes of {axis}, "
                    "which it goes by; write some with `safemerge probes`, or leave it out"
                )
        if name == "evomm":
            require("cmaes", extra="samplers")


def baseline_runs(
    requested: Sequence[tuple[str, str]], config: SearchConfig, run: Run
) -> Iterator[tuple[str, BaselineRun]]:
    """(row of the held-out table, run) of every baseline that is a search."""
    for name, method in requested:
        if name == "random":
            yield "random_search", BaselineRun(random_search(config, run.evaluations))
        elif name == "without_safety":
            unsafe = without_safety(config)
            assert unsafe is not None  # check_baselines saw to it
            yield "search_without_safety", BaselineRun(unsafe)
        elif (name, method) != MIXTURE:
            plan = two_models(config, run) if method == "slerp" else config
            for safety in (True, False):
                weights = fitness_weights(safety)
                if name == "evomm":
                    baseline = evomm(plan, method, weights, run.evaluations)
                elif name == "grid":
                    baseline = grid(plan, method, weights)
                else:
                    baseline = lm_cocktail(plan, fitness_weights(safety, alpha=1.0))
                yield row(name, method, safety), baseline


def row(name: str, method: str, safety: bool) -> str:
    """Name of a baseline's row and folder, such as `evomm_ties_without_safety`."""
    return "_".join(filter(None, (name, method, "" if safety else "without_safety")))
