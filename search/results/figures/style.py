"""What all figures share: colours that read on light and dark ground, names as text, the layout."""

from __future__ import annotations

import html

import plotly.graph_objects as go

from synth.progress import printable

COLOURS = {
    "pick": "#d1495b",
    "front": "#d1495b",
    "within": "#3b82c4",
    "outside": "#8b949e",
    "unsafe": "#c77d0a",
    "base": "#7d8590",
    "merge": "#9a6dd7",
}
SOURCES = ("#1f9d76", "#2f7fd1", "#b8860b", "#a05cc4", "#c2527a", "#5c8a1a")  # in turn
SYMBOLS = ("square", "diamond", "triangle-up", "triangle-down", "pentagon", "hexagon")
MOST_POINTS = 1500  # of one kind that are drawn; of more, evenly many


def label(text: object) -> str:
    """A name as plotly shows it unchanged: it reads some HTML tags, and entities."""
    return html.escape(printable(str(text)).replace("\n", " "), quote=False)


def finish(figure: go.Figure, title: str, said: str, *, height: int = 460) -> go.Figure:
    """Title, legend below, and the figure in words; colours of text and grid are the theme's."""
    figure.update_layout(
        title={"text": label(title)},
        template="plotly_white",
        meta={"said": said},
        height=height,
        margin={"l": 60, "r": 16, "t": 60, "b": 50},
        legend={"orientation": "h", "yanchor": "top", "y": -0.18, "x": 0},
        hovermode="closest",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    return figure


def spread(count: int, most: int = MOST_POINTS) -> list[int]:
    """At most `most` of so many indices, evenly spread."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})
