"""Parallel coordinates: the front, base and sources over all metrics at once."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from safemerge.score import Score
from search.metrics import IN_NATS, LOWER_IS_BETTER, METRICS
from search.results.figures.style import COLOURS, SOURCES, finish, label
from search.results.pareto import thinned
from search.results.run import Run

_FRONT = 30


def parallel_coordinates(run: Run) -> go.Figure | None:
    """A line for each model over the metrics by likelihood, up is better; None without a trial."""
    if not run.candidates:
        return None
    pick = run.pick()
    metrics = [m for m in METRICS if m in pick.scores and m not in IN_NATS]
    names = [f"1 − {m}" if m in LOWER_IS_BETTER else m for m in metrics]
    ticks = [name.replace("_", "<br>") for name in names]
    figure = go.Figure()

    def add(name: str, scores: Mapping[str, Score], colour: str, **style: object) -> None:
        values = [
            None if m not in scores
            else 1.0 - scores[m].value if m in LOWER_IS_BETTER
            else scores[m].value
            for m in metrics
        ]  # fmt: skip
        trace = go.Scatter(
            x=ticks,
            y=values,
            mode="lines+markers",
            name=label(name),
            line={"color": colour, "width": 2},
            text=[label(name)] * len(metrics),
            hovertemplate="%{text}<br>%{x}<br>%{y:.3f}<extra></extra>",
        )
        figure.add_trace(trace.update(style))

    others = [p for p in thinned(run.front().points, _FRONT, pick) if p != pick]
    for i, point in enumerate(others):
        grouped = {"legendgroup": "front", "showlegend": i == 0, "opacity": 0.5}
        add("front", point.scores, COLOURS["outside"], **grouped)
        figure.data[-1].update(text=[f"trial {point.number}"] * len(metrics), line_width=1)
    add("base", run.baseline.base, COLOURS["base"], line_dash="dash")
    for i, (name, scores) in enumerate(run.baseline.sources.items()):
        add(name, scores, SOURCES[i % len(SOURCES)], line_dash="dot")
    add(f"pick, trial {pick.number}", pick.scores, COLOURS["pick"], line_width=4)
    figure.update_yaxes(title_text="likelihood, up is better", range=[-0.03, 1.05])
    lowest = min(zip(metrics, names, strict=True), key=lambda pair: _up(pick.scores, pair[0]))
    said = (
        f"{len(others) + 1} points of the front, base and sources over {len(metrics)} metrics by "
        f"likelihood on the search probes. The pick is lowest in {lowest[1].replace('_', ' ')}: "
        f"{_up(pick.scores, lowest[0]):.3f}."
    )
    return finish(figure, "The front over all metrics", said)


def _up(scores: Mapping[str, Score], metric: str) -> float:
    value = scores[metric].value
    return 1.0 - value if metric in LOWER_IS_BETTER else value
