"""Routing as a picture: a heat map an axis, layers by experts."""

from __future__ import annotations

from pathlib import Path

from safemerge.atomic import replacing
from safemerge.errors import require
from search.fusion.measured import Routing


def write_heat_map(routing: Routing, path: Path) -> None:
    """Write a page that shows the shares of each axis; it loads nothing from elsewhere.

    Raises:
        MissingDependency: without plotly.
    """
    graph = require("plotly.graph_objects", extra="report")
    subplots = require("plotly.subplots", extra="report")
    axes = list(routing.shares)
    figure = subplots.make_subplots(1, len(axes), subplot_titles=axes, shared_yaxes=True)
    for column, axis in enumerate(axes, start=1):
        shares = routing.shares[axis]
        picture = graph.Heatmap(
            z=shares,
            x=routing.experts,
            y=[str(layer) for layer in range(len(shares))],
            zmin=0.0,
            zmax=1.0,
            coloraxis="coloraxis",
            hovertemplate="layer %{y}, expert %{x}: %{z:.2f}<extra></extra>",
        )
        figure.add_trace(picture, row=1, col=column)
    figure.update_yaxes(title_text="layer", col=1)
    figure.update_layout(
        title="Share of held-out answer tokens that each expert gets",
        coloraxis={"colorscale": "Viridis", "cmin": 0.0, "cmax": 1.0},
    )
    with replacing(path) as file:
        file.write(figure.to_html(include_plotlyjs=True))
