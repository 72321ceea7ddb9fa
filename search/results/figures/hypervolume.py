"""The hypervolume of the front over evaluations."""

from __future__ import annotations

import plotly.graph_objects as go

from search.metrics import gains
from search.results.figures.style import COLOURS, finish, label
from search.results.heldout_answers import baseline_runs
from search.results.pareto import hypervolume
from search.results.run import Run

Curve = tuple[list[int], list[float]]


def hypervolume_over_evaluations(run: Run) -> go.Figure | None:
    """Of the search, and of baselines with the same objectives and limits; None without a trial.

    A gradient step of the warm start is charged as three evaluations, so curves begin after it.
    """
    if not run.candidates:
        return None
    runs = {"this search": run}
    for name, folder in baseline_runs(run).items():
        other = Run.load(folder.path)
        same = (run.config.objectives, run.config.limits)
        if other.candidates and (other.config.objectives, other.config.limits) == same:
            runs[name.replace("_", " ")] = other
    figure = go.Figure()
    for name, one in runs.items():
        evaluations, volumes = _curve(one)
        figure.add_trace(
            go.Scatter(
                x=evaluations,
                y=volumes,
                name=label(name),
                line={
                    "shape": "hv",
                    "width": 2,
                    "color": COLOURS["front" if one is run else "merge"],
                    "dash": "solid" if one is run else "dash",
                },
                mode="lines+markers" if len(volumes) < 3 else "lines",
                hovertemplate="%{x} evaluations<br>hypervolume %{y:.3f}<extra></extra>",
            )
        )
    figure.update_xaxes(title_text="evaluations, warm start included")
    figure.update_yaxes(title_text="hypervolume of likelihoods", rangemode="tozero")
    volume = run.front().hypervolume()
    said = (
        f"The front's hypervolume is {volume:.3f} after {run.evaluations} evaluations."
        if any(candidate.feasible for candidate in run.candidates)
        else "No trial is within all limits, so there is no front and the hypervolume stays 0."
    )
    return finish(figure, "Hypervolume over evaluations", said, height=400)


def _curve(run: Run) -> Curve:
    """A point where the hypervolume grows, and one at the end."""
    directions = run.config.directions
    charged = run.evaluations - len(run.candidates)
    front: list[tuple[float, ...]] = []
    evaluations, volumes = [charged + 1], [0.0]
    for done, candidate in enumerate(run.candidates, start=1):
        point = gains(candidate.scores, directions)
        if candidate.feasible and not any(_covers(other, point) for other in front):
            front = [other for other in front if not _covers(point, other)] + [point]
            evaluations.append(charged + done)
            volumes.append(hypervolume(front, directions))
    return [*evaluations, run.evaluations], [*volumes, volumes[-1]]


def _covers(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return all(x >= y for x, y in zip(a, b, strict=True))
