"""Which numbers mattered: importance by PED-ANOVA, and slices through the trials."""

from __future__ import annotations

import numpy as np
import optuna
import pandas as pd
import plotly.graph_objects as go
from optuna.importance import PedAnovaImportanceEvaluator
from plotly.subplots import make_subplots

from search.metrics import signs
from search.results.figures.frames import number_frame
from search.results.figures.style import COLOURS, SOURCES, finish, label, spread
from search.results.run import Run
from search.samplers.quiet_optuna import quiet_optuna

LEAST_TRIALS = 20  # fewer say nothing
_TRIALS = 1000  # most that are looked at, evenly many
_SHOWN = 12  # numbers with a bar


def importances(run: Run) -> pd.DataFrame:
    """Share of each searched number (row) in each objective (column), most important first.

    PED-ANOVA (Watanabe et al. 2023, 2304.10255) as Optuna has it: how differently a number is
    spread among the best tenth of the trials and among all of them. Empty with fewer than
    `LEAST_TRIALS` trials.
    """
    found: dict[str, dict[str, float]] = {}
    numbers, values = _tried(run)
    if len(numbers) < LEAST_TRIALS or numbers.empty:
        return pd.DataFrame()
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.FloatDistribution(float(column.min()), float(column.max()))
        for name, column in numbers.items()
    }
    rows = numbers.to_dict("records")
    with quiet_optuna():
        evaluator = PedAnovaImportanceEvaluator()
        for objective, sign in signs(run.config.directions).items():
            study = optuna.create_study(direction="maximize")
            study.add_trials(
                [
                    optuna.trial.create_trial(
                        params=row, distributions=distributions, value=sign * value
                    )
                    for row, value in zip(rows, values[objective], strict=True)
                ]
            )
            shares = evaluator.evaluate(study)
            total = sum(shares.values()) or 1.0
            found[objective] = {name: share / total for name, share in shares.items()}
    frame = pd.DataFrame(found).fillna(0.0)
    return frame.loc[frame.max(axis=1).sort_values(ascending=False).index]


def parameter_importance(shares: pd.DataFrame) -> go.Figure | None:
    """The most important numbers by `importances(run)`; None with too few trials."""
    if shares.empty:
        return None
    top = shares.head(_SHOWN)
    figure = go.Figure(
        [
            go.Bar(
                y=[label(name) for name in top.index],
                x=100 * top[objective],
                name=objective,
                orientation="h",
                marker={"color": SOURCES[i]},
                hovertemplate="%{y}<br>%{x:.0f} %<extra>" + objective + "</extra>",
            )
            for i, objective in enumerate(top.columns)
        ]
    )
    figure.update_xaxes(title_text="share of the importance, % (PED-ANOVA)")
    figure.update_yaxes(autorange="reversed", automargin=True)
    leading = "; ".join(f"{o}: {top[o].idxmax()} ({100 * top[o].max():.0f} %)" for o in top)
    said = (
        f"The most important of {len(shares)} numbers by PED-ANOVA. {leading}. It tells where good "
        "trials differ from the rest, not why."
    )
    return finish(figure, "Which numbers mattered", said, height=140 + 34 * len(top))


def slices(run: Run, shares: pd.DataFrame, most: int = 3) -> go.Figure | None:
    """Objectives over the most important numbers, a point for each trial; None with too few."""
    if shares.empty:
        return None
    numbers, values = _tried(run)
    top, objectives = list(shares.index[:most]), list(shares.columns)
    figure = make_subplots(
        rows=len(objectives), cols=len(top), shared_yaxes=True, shared_xaxes=True,
        horizontal_spacing=0.04, vertical_spacing=0.06,
    )  # fmt: skip
    for row, objective in enumerate(objectives, start=1):
        for column, name in enumerate(top, start=1):
            figure.add_trace(
                go.Scatter(
                    x=numbers[name].to_numpy(),
                    y=np.asarray(values[objective]),
                    mode="markers",
                    marker={"size": 5, "color": COLOURS["within"], "opacity": 0.6},
                    showlegend=False,
                    text=[f"trial {number}" for number in numbers.index],
                    hovertemplate="%{text}<br>%{x:.3f}<br>%{y:.3f}<extra></extra>",
                ),
                row=row,
                col=column,
            )
            if row == len(objectives):
                figure.update_xaxes(title_text=label(name), row=row, col=column)
        figure.update_yaxes(title_text=objective, row=row, col=1)
    said = f"Objectives, by likelihood, over {', '.join(top)}: a point for each trial."
    return finish(
        figure, "Trials over the numbers that mattered", said, height=120 + 220 * len(objectives)
    )


def _tried(run: Run) -> tuple[pd.DataFrame, dict[str, list[float]]]:
    """Numbers of the trials that are looked at, and their objectives."""
    kept = [run.candidates[i] for i in spread(len(run.candidates), _TRIALS)]
    if len(kept) < LEAST_TRIALS:
        return pd.DataFrame(), {}
    numbers = number_frame(run, [candidate.number for candidate in kept])
    # Several methods have numbers of their own; what a trial has not, it does not tell.
    numbers = numbers.dropna(axis=1)
    objectives = run.config.objective_names
    return numbers, {name: [c.scores[name].value for c in kept] for name in objectives}
