"""Rates by category: harm categories and topics of the field, with how many probes each has."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from search.results.figures.frames import category_frame
from search.results.figures.style import finish, label
from synth.probes.probe import AXES


def categories(answers: pd.DataFrame, models: Sequence[str], axis: str) -> go.Figure | None:
    """Held-out rates of some models by category of one axis, the last model's worst first.

    Args:
        answers: `answer_frame(run)`.
        models: rows of the held-out table; those without answers are left out.
        axis: domain, harmless, helpful or honest.

    Returns:
        None where the axis has no answers.
    """
    if axis not in AXES or answers.empty:
        return None
    chosen = answers[(answers["axis"] == axis) & answers["model"].isin(models)]
    if chosen.empty:
        return None
    frame = category_frame(chosen)
    columns = [model for model in models if model in set(frame["model"])]
    rate = frame.pivot(index="category", columns="model", values="rate")[columns]
    rate = rate.sort_values(columns[-1], kind="stable")
    count = frame.pivot(index="category", columns="model", values="n").loc[rate.index, columns]
    figure = go.Figure(
        go.Heatmap(
            z=(100 * rate).to_numpy(),
            x=[_model(name) for name in columns],
            y=[f"{label(name)} (n = {int(count.loc[name].max())})" for name in rate.index],
            zmin=0,
            zmax=100,
            colorscale="YlGnBu",
            colorbar={"title": {"text": "%"}},
            texttemplate="%{z:.0f}",
            hovertemplate="%{y}<br>%{x}<br>%{z:.1f} %<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    worst = frame[frame["model"] == columns[-1]].sort_values("rate", kind="stable").iloc[0]
    said = f"Held-out {axis} by category, % right. "
    if rate[columns[-1]].nunique() > 1:
        said += f"The worst of {len(rate)} for {_model(columns[-1])} is {worst['category']}: "
    else:
        said += f"All {len(rate)} are alike for {_model(columns[-1])}; {worst['category']}: "
    said += f"{worst['right']} of {worst['n']}."
    return finish(figure, f"{axis} by category", said, height=190 + 30 * len(rate))


def _model(row: str) -> str:
    return "the pick" if row == "search" else label(row).replace("_", " ")
