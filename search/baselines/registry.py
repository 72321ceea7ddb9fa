"""What `--baseline` names: the runs of every baseline, their rows, and what they cannot do without.

| name               | runs                                                                   |
| ------------------ | ---------------------------------------------------------------------- |
| evomm, evomm:ties  | EvoMM over ties, dare_ties and slerp, or one; with and without safety  |
| grid, grid:ties    | the paper's grid, in the same way                                      |
| lm_cocktail        | LM-Cocktail, with and without safety                                   |
| random             | uniform draws from the search's own space                              |
| without_safety     | the same search without the safety term                                |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from safemerge.errors import ConfigError, near_names, require
from search.baselines.ablations import SAFETY, random_search, without_safety
from search.baselines.budget import charged
from search.baselines.evomm import evomm
from search.baselines.fitness import EXPERT, Baseline, fitness_weights
from search.baselines.grid import grid
from search.baselines.lm_cocktail import lm_cocktail
from search.baselines.slerp_pair import two_models
from search.config import SearchConfig
from search.results.run import Run
from search.study.transfer import read_start
from synth.probes.probe import ProbeSet

PLAIN = ("random", "without_safety")
OVER_METHODS = ("evomm", "grid")
BASELINES = (*OVER_METHODS, "lm_cocktail", *PLAIN)
METHODS = ("ties", "dare_ties", "slerp")


def parse_baselines(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """(baseline, method) pairs, each once; the method is "" where there is none to choose.

    Raises:
        ConfigError: an unknown baseline or method, with the nearest one.
    """
    found: dict[tuple[str, str], None] = {}
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
        found.update(dict.fromkeys((name, one) for one in methods))
    return tuple(found)


def check_baselines(
    asked: Sequence[tuple[str, str]], config: SearchConfig, probes: ProbeSet
) -> None:
    """Refuse what could not run after the search, before it begins.

    Raises:
        ConfigError: a baseline whose probes, or whose safety term, are not there.
        MissingDependency: EvoMM without CMA-ES, with the install line.
    """
    axes = {probe.axis for probe in probes.split("search").probes}
    for name, _ in asked:
        if name == "without_safety" and without_safety(config) is None:
            raise ConfigError(
                f"--baseline without_safety: without {SAFETY} this search would have no other "
                "objective, or be the same; leave it out"
            )
        for axis in (SAFETY, EXPERT) if name not in PLAIN else ():
            if axis not in axes:
                raise ConfigError(
                    f"--baseline {name}: {config.probes.path} has no search probes of {axis}, "
                    "which it goes by; write some with `safemerge probes`, or leave it out"
                )
        if name == "evomm":
            require("cmaes", extra="samplers")


def runs_of(
    asked: Sequence[tuple[str, str]], config: SearchConfig, run: Run
) -> Iterator[tuple[str, Baseline]]:
    """(row of the held-out table, run) of every baseline.

    Args:
        asked: what `parse_baselines` returned, checked.
        config: of the search.
        run: the finished search, whose evaluations are the budget, with those of the runs that it
            started from.
    """
    start = read_start(run.dir)
    trials = charged(run) + (0 if start is None else start.evaluations)
    for name, method in asked:
        if name == "random":
            yield "random_search", Baseline(random_search(config, trials))
        elif name == "without_safety":
            unsafe = without_safety(config)
            assert unsafe is not None  # check_baselines saw to it
            yield "search_without_safety", Baseline(unsafe)
        else:
            plan = two_models(config, run) if method == "slerp" else config
            for safety in (True, False):
                weights = fitness_weights(safety)
                if name == "evomm":
                    found = evomm(plan, method, weights, trials)
                elif name == "grid":
                    found = grid(plan, method, weights)
                else:
                    found = lm_cocktail(plan, fitness_weights(safety, alpha=1.0))
                yield row(name, method, safety), found


def row(name: str, method: str, safety: bool) -> str:
    """Name of a baseline's row and folder, such as `evomm_ties_without_safety`."""
    return "_".join(filter(None, (name, method, "" if safety else "without_safety")))
