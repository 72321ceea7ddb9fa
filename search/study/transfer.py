"""Starting from another run: its pick and front as points of this search's space.

None of the prompts that they are fitted to may be held out here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from safemerge.errors import BadInput, RecipeError, RunError
from search.config import StudyConfig
from search.results.pareto import thinned
from search.results.run import Run
from search.runs.probe_sets import load_probes
from search.runs.rundir import RunDir
from search.runs.start import START, Start
from search.runs.workbench import Workbench, check_gradient
from synth.probes.probe import Probe
from synth.text.normalise import normalise

_SHARE = 0.25  # of the trials that another run's front may take


def run_to_start_from(home: RunDir, start_from: str | None) -> Run | None:
    """The other run, unless it was read before; a RunError where it cannot be used."""
    if start_from is None or home.load(START, Start) is not None:
        return None
    try:
        other = Run.load(start_from)
        other.pick()
    except RunError as error:
        raise RunError(f"search.start_from: {error}") from error
    return other


def start_of(other: Run, settings: StudyConfig, bench: Workbench) -> Start:
    """What a search takes over from another run: its pick, and points of its front with a place.

    Raises:
        RunError: the pick has no place in the space, or that run has seen what is held out here.
        ConfigError: a warm start cannot set out from the pick, for want of a gradient.
    """
    pick = other.pick()
    try:
        points = [bench.space.coordinates(pick.recipe)]
    except RecipeError as error:
        raise RunError(f"search.start_from = {other.dir.path}: {error}") from error
    check_gradient(pick.recipe.method, settings.warm_start)
    most = max(1, int(_SHARE * settings.trials))
    for point in thinned(other.reported_points(), most, kept=pick):
        try:
            placed = bench.space.coordinates(point.recipe)
        except RecipeError:  # of a method or an option that is not searched any more
            continue
        if placed not in points:
            points.append(placed)
    seen = _seen_by(other)
    _check_unseen(bench.probes.split("heldout").probes, seen, other)
    return Start(points, other.evaluations, sorted(seen))


def _seen_by(other: Run) -> set[str]:
    """Digests of the prompts that a run, and what it started from, was fitted to."""
    try:
        probes = load_probes(other.config)
        known = other.dir.require("lock.json", dict)["probes"]
        problem = None if probes.content_hash == known else "they have changed since"
    except BadInput as error:
        problem = str(error)
    if problem is not None:
        raise RunError(
            f"search.start_from = {other.dir.path}: the probes of that run are needed to see that "
            f"none of them is held out here, and cannot be had: {problem}; restore them, or start "
            "from another run"
        )
    fitted = (probe for probe in probes if probe.split != "heldout")
    before = other.dir.load(START, Start)
    return {_digest(probe) for probe in fitted} | set([] if before is None else before.seen)


def _check_unseen(heldout: Sequence[Probe], seen: set[str], other: Run) -> None:
    shared = [probe.id for probe in heldout if _digest(probe) in seen]
    if shared:
        raise RunError(
            f"search.start_from = {other.dir.path}: {len(shared)} held-out probes of this search, "
            f"such as {shared[0]}, were search probes of that run, which its pick is fitted to; "
            "give both runs the same seed and probes, or this one other held-out probes"
        )


def _digest(probe: Probe) -> str:
    return hashlib.sha256(normalise(probe.prompt).encode()).hexdigest()[:16]
