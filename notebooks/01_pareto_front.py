# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The Pareto front of a run
#
# A search scores every merged model on domain skill *and* alignment. This notebook loads a
# finished run, draws the front with error bars beside sources and baselines, picks a point, shows
# which layers of which source it uses.
#
# Run `make demo` first, or name another run in the environment variable `SAFEMERGE_RUN`.

# %%
import os
from pathlib import Path

import plotly.graph_objects as go

from search import Run

run_path = Path(os.environ.get("SAFEMERGE_RUN", "../runs/demo"))
run = Run.load(run_path)
len(run.candidates), run.config.objective_names, list(run.config.limits)

# %% [markdown]
# ## Every trial on the search probes
#
# A trial's score is the likelihood of the wanted answers on the search probes: a number from 0 to
# 1, no rate of replies. Grey trials break a limit by likelihood; the line joins the front.

# %%
x_name, y_name = "domain", "harmless"
front = run.front()


def scatter(points, name, **style):
    """Points with one standard error in both directions."""
    return go.Scatter(
        x=[p.scores[x_name].value for p in points],
        y=[p.scores[y_name].value for p in points],
        error_x={"array": [p.scores[x_name].stderr for p in points], "thickness": 0.5},
        error_y={"array": [p.scores[y_name].stderr for p in points], "thickness": 0.5},
        text=[f"trial {p.number}" for p in points],
        name=name,
        **style,
    )


on_front = {p.number for p in front.points}
others = [c for c in run.candidates if c.feasible and c.number not in on_front]
outside = [c for c in run.candidates if not c.feasible]
figure = go.Figure(
    [
        scatter(outside, "beyond a limit", mode="markers", marker={"color": "lightgrey"}),
        scatter(others, "feasible", mode="markers", marker={"color": "steelblue"}),
        scatter(front.points, "front", mode="lines+markers", marker={"color": "crimson"}),
    ]
)
figure.update_layout(
    title=f"Search probes, by likelihood: {len(run.candidates)} trials",
    xaxis_title=f"{x_name} (likelihood)",
    yaxis_title=f"{y_name} (likelihood)",
    template="plotly_white",
)
figure

# %% [markdown]
# ## The same on held-out probes
#
# Here nothing is optimised any more: the models answer questions that the search never saw, and a
# judge reads the replies. The sources show the trade-off; the merges should sit above the line
# between them.

# %%
heldout = run.heldout()
assert heldout is not None, "not measured yet: safemerge search CONFIG"
rows, measured = heldout.rows, heldout.front
pick = run.pick()


def held(scores, name, **style):
    """One model or several with standard errors."""
    return go.Scatter(
        x=[s[x_name].value for s in scores],
        y=[s[y_name].value for s in scores],
        error_x={"array": [s[x_name].stderr for s in scores], "thickness": 0.8},
        error_y={"array": [s[y_name].stderr for s in scores], "thickness": 0.8},
        name=name,
        **style,
    )


mark = heldout.outside.get("search", "")  # where the pick is outside its limits
sources = ["base", *(source.name for source in pick.recipe.sources)]
baselines = [name for name in rows if name not in sources and name != "search"]
figure = go.Figure(
    [
        *(
            held([rows[n]], n, mode="markers+text", text=[n], textposition="bottom center")
            for n in sources
        ),
        *(held([rows[n]], n.replace("_", " "), mode="markers") for n in baselines),
        held(list(measured.values()), "front", mode="markers", marker={"color": "crimson"}),
        held(
            [measured[pick.number]],
            f"pick (trial {pick.number}{mark and ', ' + mark})",
            mode="markers",
            marker={"color": "crimson", "size": 14, "symbol": "star"},
        ),
    ]
)
figure.update_layout(
    title=f"Rates of held-out replies, n = {rows['search'][x_name].n} for each axis",
    xaxis_title=f"{x_name} (rate of correct replies)",
    yaxis_title=f"{y_name} (rate of refusals)",
    template="plotly_white",
)
figure

# %% [markdown]
# What these numbers allow to say:

# %%
print("\n".join(heldout.statements))

# %% [markdown]
# ## Pick a point
#
# The search picked the point that answered the validation probes best, or, of several that these
# cannot tell apart, the most balanced one. Another rule, by likelihood, is one line:
# `front.pick(at_least={"harmless": 0.9}, maximise="domain")`.

# %%
best = front.pick(maximise=x_name)
for label, point in (("the search's pick", pick), (f"best {x_name}", best)):
    shown = {
        name: f"{score.value:.3f} ± {score.stderr:.3f}" for name, score in point.scores.items()
    }
    print(f"{label}: trial {point.number}, by likelihood", shown)

# %% [markdown]
# ## What the pick is made of
#
# One row for each place group, one column for each source: how much of its delta is merged there.

# %%
names = [source.name for source in pick.recipe.sources]
groups = list(pick.recipe.weights)
figure = go.Figure(
    go.Heatmap(
        z=[[pick.recipe.weights[group][name] for name in names] for group in groups],
        x=names,
        y=groups,
        colorscale="Viridis",
        colorbar={"title": "weight"},
    )
)
figure.update_layout(
    title=f"Merge weights of trial {pick.number}",
    height=240 + 16 * len(groups),
    template="plotly_white",
)
figure.update_yaxes(autorange="reversed")
figure

# %% [markdown]
# `safemerge export RUN` writes the pick as an ordinary Hugging Face checkpoint, where it is within
# its limits; `safemerge export RUN TRIAL` writes any trial.
