"""Held-out against search scores: how much of what a search found is luck (winner's curse)."""

from __future__ import annotations

import plotly.graph_objects as go

from search.results.figures.style import SOURCES, SYMBOLS, finish
from search.results.run import Run
from search.scoring.generalization_gap import MEAN


def generalization(run: Run) -> go.Figure | None:
    """The front's likelihoods on held-out probes over those on search probes, an axis a colour.

    Below the diagonal a model does worse where nothing was optimised. None without a measurement.
    """
    heldout = run.heldout()
    if heldout is None or not heldout.gap:
        return None
    axes = [axis for axis in next(iter(heldout.gap.values())) if axis != MEAN]
    figure = go.Figure(
        go.Scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            line={"dash": "dot", "color": "#8b949e"},
            name="equal",
            hoverinfo="skip",
        )
    )
    for i, axis in enumerate(axes):
        rows = {number: gap[axis] for number, gap in heldout.gap.items() if axis in gap}
        sizes = [15 if number == heldout.pick else 8 for number in rows]
        figure.add_trace(
            go.Scatter(
                x=[gap.search.value for gap in rows.values()],
                y=[gap.heldout.value for gap in rows.values()],
                error_x={"array": [gap.search.stderr for gap in rows.values()], "thickness": 1},
                error_y={"array": [gap.heldout.stderr for gap in rows.values()], "thickness": 1},
                mode="markers",
                marker={
                    "color": SOURCES[i % len(SOURCES)],
                    "symbol": SYMBOLS[i % len(SYMBOLS)],
                    "size": sizes,
                },
                name=axis,
                text=[f"trial {n}{', the pick' if n == heldout.pick else ''}" for n in rows],
                hovertemplate="%{text}<br>search %{x:.3f}<br>held-out %{y:.3f}<extra></extra>",
            )
        )
    values = [
        score.value
        for gap in heldout.gap.values()
        for axis in axes
        for score in (gap[axis].search, gap[axis].heldout)
    ]
    low, high = max(0.0, min(values) - 0.08), min(1.02, max(values) + 0.08)
    figure.update_xaxes(title_text="likelihood on search probes", range=[low, high])
    figure.update_yaxes(title_text="likelihood on held-out probes", range=[low, high])
    mean = heldout.gap[heldout.pick][MEAN]
    side = "below" if mean.value >= 0 else "above"
    said = (
        f"Held-out against search likelihoods of {len(heldout.gap)} points of the front. The "
        f"pick's mean is {abs(mean.value):.3f} ± {mean.stderr:.3f} {side} the diagonal"
        + (", less than two standard errors." if abs(mean.value) < 2 * mean.stderr else ".")
    )
    return finish(figure, "What the search found, on probes that it never saw", said)
