"""What merges are made of, over depth: weights of each source, and rank ratios."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from search.results.figures.frames import weight_frame
from search.results.figures.style import COLOURS, finish, label
from search.results.pareto import thinned
from search.results.run import Run

_FRONT = 12  # members of the front that are drawn beside the pick


def depth_profiles(run: Run) -> go.Figure | None:
    """Weights over depth, a panel for each source, and rank ratios: the front's members, the pick.

    Of several modules in a layer it is the mean. None where no number belongs to a layer.
    """
    if not run.candidates:
        return None
    pick = run.pick()
    members = [point.number for point in thinned(run.front().points, _FRONT)]
    frame = weight_frame(run, dict.fromkeys([*members, pick.number]))
    inside = frame.dropna(subset=["depth"])
    if inside["depth"].nunique() < 2:
        return None
    sources = [source.name for source in pick.recipe.sources]
    panels = {f"weight of {source}": (source, "weight") for source in sources}
    if inside["rank_ratio"].notna().any():
        panels["rank ratio"] = (sources[0], "rank_ratio")
    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.09,
        subplot_titles=[label(title) for title in panels],
    )
    for row, (source, value) in enumerate(panels.values(), start=1):
        part = inside[inside["source"] == source]
        for number in [*(n for n in members if n != pick.number), pick.number]:
            means = part[part["trial"] == number].groupby("depth")[value].mean()
            is_pick = number == pick.number
            figure.add_trace(
                go.Scatter(
                    x=means.index.to_numpy(),
                    y=means.to_numpy(),
                    mode="lines+markers" if is_pick else "lines",
                    line={
                        "width": 3 if is_pick else 1,
                        "color": COLOURS["pick"] if is_pick else COLOURS["outside"],
                    },
                    opacity=1.0 if is_pick else 0.6,
                    name=f"pick, trial {number}" if is_pick else "front members",
                    legendgroup="pick" if is_pick else "front",
                    showlegend=row == 1 and (is_pick or number == _first(members, pick.number)),
                    text=[f"trial {number}"] * len(means),
                    hovertemplate="%{text}<br>layer %{x}<br>%{y:.2f}<extra></extra>",
                ),
                row=row,
                col=1,
            )
    unit = "layer" if inside["group"].iloc[0].startswith("layer") else "block"
    figure.update_xaxes(title_text=unit, dtick=max(1, int(inside["depth"].max()) // 12))
    figure.update_xaxes(title_text=None, row=1, col=1)
    for row in range(1, len(panels)):
        figure.update_xaxes(title_text=None, row=row, col=1)
    figure.update_yaxes(rangemode="tozero")
    told = "; ".join(_said(inside, pick.number, source, unit) for source in sources)
    said = f"Means over each {unit} of the pick: {told}."
    done = finish(figure, "Weights over depth", said, height=130 + 190 * len(panels))
    return done.update_layout(legend={"y": -0.5 / len(panels)})


def weight_map(run: Run, number: int | None = None) -> go.Figure | None:
    """Weights of one trial, the pick by default: a row for each place group, in order of depth."""
    if not run.candidates:
        return None
    number = run.pick().number if number is None else number
    frame = weight_frame(run, [number])
    table = frame.pivot(index="group", columns="source", values="weight")
    table = table.loc[frame["group"].unique(), frame["source"].unique()]
    figure = go.Figure(
        go.Heatmap(
            z=table.to_numpy(),
            x=[label(name) for name in table.columns],
            y=[label(name) for name in table.index],
            colorscale="Viridis",
            colorbar={"title": {"text": "weight"}},
            hovertemplate="%{y}<br>%{x}<br>weight %{z:.2f}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", automargin=True, tickmode="linear", dtick=1)
    strongest = frame.loc[frame["weight"].idxmax()]
    said = (
        f"Weights of trial {number} at {len(table)} place groups. The largest is "
        f"{strongest['weight']:.2f}, of {strongest['source']} at {strongest['group']}."
    )
    height = 180 + 18 * len(table)
    return finish(figure, f"Merge weights of trial {number}", said, height=height)


def _first(members: list[int], pick: int) -> int | None:
    return next((number for number in members if number != pick), None)


def _said(frame: pd.DataFrame, number: int, source: str, unit: str) -> str:
    part = frame[(frame["trial"] == number) & (frame["source"] == source)]
    means = part.groupby("depth")["weight"].mean()
    return (
        f"{source} {means.mean():.2f} on average, most at {unit} {int(means.idxmax())} "
        f"({means.max():.2f})"
    )
