"""The front with error bars: by likelihood on search probes, by replies on held-out ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from safemerge.score import Score, Scores
from search.metrics import IN_NATS
from search.results.figures.style import COLOURS, SOURCES, SYMBOLS, finish, label, spread
from search.results.heldout_answers import baseline_runs
from search.results.pareto import Candidate
from search.results.run import Run

_EXACT = 10**9  # n of what is no measurement, the number of a trial: no error to be seen
UNSAFE = "search_without_safety"  # the baseline whose front stands beside the run's own


@dataclass(frozen=True, slots=True)
class _Series:
    """Points of one kind."""

    name: str
    scores: Sequence[Scores]
    texts: Sequence[str]
    colour: str
    symbol: str = "circle"
    size: int = 7
    opacity: float = 1.0
    errors: bool = True
    line: bool = False


def search_front(run: Run) -> go.Figure | None:
    """All trials on the search probes, a panel for each two objectives (with one: over trials).

    Grey is outside a limit; the front is joined; base, sources and the front of the search without
    safety stand beside it. None without a finished trial.
    """
    if not run.candidates:
        return None
    names: list[str] = [*run.config.objective_names]
    pairs = list(combinations(names, 2)) or [("trial", names[0])]
    series = _search_series(run)
    figure = make_subplots(rows=1, cols=len(pairs), horizontal_spacing=0.09)
    for column, (x, y) in enumerate(pairs, start=1):
        for one in series:
            trace = _trace(one, x, y, 1.0)
            trace.showlegend = column == 1
            trace.legendgroup = one.name
            figure.add_trace(trace, row=1, col=column)
        for update, metric in ((figure.update_xaxes, x), (figure.update_yaxes, y)):
            values = [s[metric].value for one in series for s in one.scores]
            shown = None if metric == "trial" else _range(values, 1.0)
            update(title_text=_axis_title(run, metric), range=shown, row=1, col=column)
    inside = sum(candidate.feasible for candidate in run.candidates)
    said = (
        f"{len(run.candidates)} trials by likelihood on the search probes; {inside} keep all "
        "limits by estimate. "
    )
    if inside:
        said += f"{len(run.front().points)} of them form the front."
    else:
        said += "There is no front within the limits: the marked trial is the one nearest to them."
    return finish(figure, "Every trial on the search probes, by likelihood", said, height=520)


def search_front_3d(run: Run) -> go.Figure | None:
    """The same in three objectives at once; None where there are not three, or no trial."""
    names = run.config.objective_names
    if len(names) != 3 or not run.candidates:
        return None
    figure = go.Figure()
    for one in _search_series(run):
        sizes = {
            axis: [s[name].value for s in one.scores]
            for axis, name in zip("xyz", names, strict=True)
        }
        figure.add_trace(
            go.Scatter3d(
                **sizes,
                **{
                    f"error_{axis}": {"array": [s[name].stderr for s in one.scores], "thickness": 1}
                    for axis, name in zip("xyz", names, strict=True)
                    if one.errors
                },
                mode="markers",
                name=label(one.name),
                text=[label(text) for text in one.texts],
                marker={"color": one.colour, "size": max(3, one.size - 3), "opacity": one.opacity},
            )
        )
    titles = {f"{axis}axis": {"title": {"text": n}} for axis, n in zip("xyz", names, strict=True)}
    figure.update_layout(scene=titles)
    said = f"{len(run.candidates)} trials by likelihood in {', '.join(names)}."
    return finish(figure, "Every trial in three objectives", said, height=640)


def heldout_front(run: Run, x: str | None = None, y: str | None = None) -> go.Figure | None:
    """Base, sources, plain merges, baselines, front and pick by replies to held-out probes.

    `x` and `y` are metrics; by default the first two objectives. None where nothing was measured,
    or not in these.
    """
    heldout = run.heldout()
    if heldout is None:
        return None
    names = [*run.config.objective_names, "domain", "harmless", "helpful", "honest"]
    both = [m for m in dict.fromkeys(names) if m in heldout.rows["search"] and m not in IN_NATS]
    if x is None or y is None:
        if len(both) < 2:
            return None
        x, y = both[:2]
    sources = [source.name for source in run.config.models.sources]
    series = []
    for name, scores in heldout.rows.items():
        if name == "search":
            continue
        plain = name not in (*sources, "base")
        series.append(
            _Series(
                name.replace("_", " "),
                [scores],
                [name.replace("_", " ")],
                _model_colour(name, sources),
                symbol="x" if plain else _model_symbol(name, sources),
                size=10,
            )
        )
    others = {n: s for n, s in heldout.front.items() if n != heldout.pick}
    texts = [f"trial {number}" for number in others]
    series.append(
        _Series("front", list(others.values()), texts, COLOURS["front"], size=8, opacity=0.6)
    )
    mark = heldout.outside.get("search", "")
    pick = f"pick, trial {heldout.pick}" + (f" ({mark})" if mark else "")
    scores = heldout.rows["search"]
    series.append(_Series(pick, [scores], [pick], COLOURS["pick"], symbol="star", size=17))
    figure = go.Figure([_trace(one, x, y, 100.0) for one in series if one.scores])
    counts = {metric: scores[metric].n for metric in (x, y)}
    everyone = [*heldout.rows.values(), *heldout.front.values()]
    for update, metric in ((figure.update_xaxes, x), (figure.update_yaxes, y)):
        update(
            title_text=f"{metric.replace('_', ' ')}, % of replies (n = {counts[metric]})",
            range=_range([100 * s[metric].value for s in everyone if metric in s], 100.0),
        )
    told = ", ".join(
        f"{metric.replace('_', ' ')} {100 * scores[metric].value:.1f} %" for metric in (x, y)
    )
    said = (
        f"Replies to held-out probes of {len(heldout.rows) - 1} models beside the pick, and of "
        f"{len(heldout.front)} points of the front. The pick is at {told}. Bars are one standard "
        "error."
    )
    return finish(figure, f"{x} against {y} on held-out probes", said, height=520)


def _search_series(run: Run) -> list[_Series]:
    front, pick = run.front(), run.pick()
    on_front = {point.number for point in front.points}
    within = [c for c in run.candidates if c.feasible and c.number not in on_front]
    outside = [c for c in run.candidates if not c.feasible and c.number not in on_front]
    feasible = any(point.feasible for point in front.points)
    sources = list(run.baseline.sources)
    series = [
        _many("outside a limit", outside, COLOURS["outside"], symbol="x", opacity=0.5),
        _many("within the limits", within, COLOURS["within"], opacity=0.5),
    ]
    beside = baseline_runs(run).get(UNSAFE)
    if beside is not None:
        series.append(
            _of(
                "front without safety",
                [p for p in Run.load(beside.path).front().points if _has_all(p.scores, run)],
                COLOURS["unsafe"],
                symbol="circle-open",
                line=True,
            )
        )
    name = "front" if feasible else "nearest to the limits"
    series.append(_of(name, front.points, COLOURS["front"], line=feasible, size=9))
    references = {"base": run.baseline.base, **run.baseline.sources}
    for model, scores in references.items():
        if _has_all(scores, run):
            colour, symbol = _model_colour(model, sources), _model_symbol(model, sources)
            series.append(_Series(model, [scores], [model], colour, symbol=symbol, size=11))
    shown = f"pick, trial {pick.number}" + ("" if pick.feasible else " (outside its limits)")
    series.append(_of(shown, [pick], COLOURS["pick"], symbol="star", size=17))
    return [one for one in series if one.scores]


def _many(name: str, candidates: Sequence[Candidate], colour: str, **style: Any) -> _Series:
    kept = [candidates[i] for i in spread(len(candidates))]
    count = str(len(candidates))
    if len(kept) < len(candidates):
        count = f"{len(kept)} of {count} drawn"
    return _of(f"{name} ({count})", kept, colour, errors=False, **style)


def _of(name: str, candidates: Iterable[Candidate], colour: str, **style: Any) -> _Series:
    points = list(candidates)
    scores = [{"trial": Score(c.number, 0.0, _EXACT), **c.scores} for c in points]
    return _Series(name, scores, [f"trial {c.number}" for c in points], colour, **style)


def _has_all(scores: Mapping[str, Any], run: Run) -> bool:
    """With one objective the other axis counts trials, which a model without a number has not."""
    names = run.config.objective_names
    return len(names) > 1 and all(name in scores for name in names)


def _trace(one: _Series, x: str, y: str, factor: float) -> go.Scatter:
    """Points with one standard error in both directions."""

    def bars(metric: str) -> dict[str, Any]:
        array = [factor * s[metric].stderr for s in one.scores]
        return {"array": array, "thickness": 1, "width": 0, "visible": one.errors}

    return go.Scatter(
        x=[factor * s[x].value for s in one.scores],
        y=[factor * s[y].value for s in one.scores],
        error_x=bars(x),
        error_y=bars(y),
        text=[label(text) for text in one.texts],
        name=label(one.name),
        mode="lines+markers" if one.line else "markers",
        line={"width": 1.5},
        marker={"color": one.colour, "symbol": one.symbol, "size": one.size},
        opacity=one.opacity,
        hovertemplate="%{text}<br>" + f"{x} %{{x:.3~f}}<br>{y} %{{y:.3~f}}<extra></extra>",
    )


def _range(values: Sequence[float], top: float) -> list[float]:
    """Of an axis from the smallest to the largest value, a little beyond, and not far beyond what
    a share can be."""
    low, high = min(values), max(values)
    margin = 0.06 * max(high - low, 0.1 * top)
    return [max(low - margin, -0.04 * top), min(high + margin, 1.04 * top)]


def _axis_title(run: Run, metric: str) -> str:
    if metric == "trial":
        return "trial"
    n = run.candidates[0].scores[metric].n
    return f"{metric.replace('_', ' ')}, likelihood (n = {n})"


def _model_colour(name: str, sources: Sequence[str]) -> str:
    if name in sources:
        return SOURCES[list(sources).index(name) % len(SOURCES)]
    return COLOURS["base" if name == "base" else "unsafe" if name == UNSAFE else "merge"]


def _model_symbol(name: str, sources: Sequence[str]) -> str:
    return SYMBOLS[list(sources).index(name) % len(SYMBOLS)] if name in sources else "circle"
