"""The 3H table (helpful, honest, harmless) and the domain: rates of held-out replies."""

from __future__ import annotations

import plotly.graph_objects as go

from search.results.figures.style import finish, label
from search.results.run import Run

_AXES = ("domain", "harmless", "helpful", "honest")


def three_h(run: Run) -> go.Figure | None:
    """A row for each model of the held-out table, a column for each axis; None without one."""
    heldout = run.heldout()
    if heldout is None:
        return None
    axes = [axis for axis in _AXES if axis in heldout.rows["search"]]
    names = {row: row.replace("_", " ") for row in heldout.rows}
    names["search"] = f"pick, trial {heldout.pick}"
    cells = [[heldout.rows[row].get(axis) for axis in axes] for row in heldout.rows]
    figure = go.Figure(
        go.Heatmap(
            z=[[None if cell is None else 100 * cell.value for cell in row] for row in cells],
            text=[
                ["" if c is None else f"{100 * c.value:.0f} ± {100 * c.stderr:.0f}" for c in row]
                for row in cells
            ],
            x=[f"{axis}<br>n = {heldout.rows['search'][axis].n}" for axis in axes],
            y=[label(names[row]) for row in heldout.rows],
            zmin=0,
            zmax=100,
            colorscale="YlGnBu",
            colorbar={"title": {"text": "%"}},
            texttemplate="%{text}",
            hovertemplate="%{y}<br>%{x}<br>%{text} %<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(side="top")
    pick = heldout.rows["search"]
    told = ", ".join(f"{axis} {100 * pick[axis].value:.0f} %" for axis in axes)
    said = f"Rates of held-out replies, ± one standard error. The pick: {told}."
    return finish(figure, "Helpful, honest, harmless, and the domain", said).update_layout(
        height=170 + 34 * len(cells)
    )
