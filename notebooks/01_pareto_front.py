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
# # The Pareto front of a run, and picking a point
#
# A search scores every merged model on domain skill *and* alignment. This notebook loads a run,
# draws the front with error bars beside sources and baselines, picks a point, and shows which
# layers of which source it uses. `safemerge report RUN` writes the same and more as one page.
#
# Run `make demo` first, or name another run in the environment variable `SAFEMERGE_RUN`.

# %%
import os
from pathlib import Path

from search import Run
from search.results import figures
from search.results.diagnostics import shortfalls

run = Run.load(Path(os.environ.get("SAFEMERGE_RUN", "../runs/demo")))
print(f"{len(run.candidates)} of {run.config.search.trials} trials are finished")
print(
    f"objectives: {', '.join(run.config.objective_names)}; limits: {', '.join(run.config.limits)}"
)
print(*shortfalls(run), sep="\n")

# %% [markdown]
# ## Every trial on the search probes
#
# A trial's score is the likelihood of the wanted answers on the search probes: a number from 0 to
# 1, no rate of replies. Grey trials break a limit; the line joins the front. A click on the legend
# hides and shows.

# %%
figures.search_front(run)

# %% [markdown]
# ## The same on held-out probes
#
# Here nothing is optimised any more: the models answer questions that the search never saw, and a
# judge reads the replies. The sources show the trade-off; the merges should sit above the line
# between them.

# %%
figures.heldout_front(run) or "not measured yet: `safemerge search` with the run's config does it"

# %% [markdown]
# What these numbers allow to say:

# %%
heldout = run.heldout()
print("\n".join(heldout.statements) if heldout else "nothing yet")

# %% [markdown]
# ## Pick a point
#
# The search picked the point that answered the validation probes best, or, of several that these
# cannot tell apart, the most balanced one. Another rule, by likelihood, is one line:
# `run.front().pick(at_least={"harmless": 0.9}, maximise="domain")`.

# %%
best = run.config.objective_names[0]
picks = {}
if run.candidates:
    picks = {"the search's pick": run.pick(), f"best {best}": run.front().pick(maximise=best)}
for name, point in picks.items():
    told = [f"{m} {s.value:.3f} ± {s.stderr:.3f}" for m, s in point.scores.items()]
    print(f"{name}: trial {point.number}, by likelihood: {', '.join(told)}")

# %% [markdown]
# Or move the limits: the point follows (with `pip install ipywidgets`).

# %%
measured = {metric for point in picks.values() for metric in point.scores}
axes = [metric for metric in ("domain", "harmless", "helpful", "honest") if metric in measured]


def follow(**at_least):
    """Say which points of the front keep these least likelihoods, and which of them is balanced."""
    left = [
        p for p in run.front().points if all(p.scores[m].value >= v for m, v in at_least.items())
    ]
    if not left:
        print("no point of the front is within these limits")
        return
    point = run.front().pick(at_least=at_least)
    print(f"{len(left)} points are within; the balanced one is trial {point.number}:")
    print(", ".join(f"{metric} {point.scores[metric].value:.3f}" for metric in axes))


try:
    from ipywidgets import FloatSlider, interact

    interact(follow, **{m: FloatSlider(min=0, max=1, step=0.01, value=0) for m in axes})
except ImportError:
    follow(**dict.fromkeys(axes, 0.0))

# %% [markdown]
# ## What the pick is made of
#
# Weights over depth, the front's members in grey, and the pick's weight at every place group.

# %%
figures.depth_profiles(run) or "this run has one weight for all layers"

# %%
figures.weight_map(run)

# %% [markdown]
# `safemerge export RUN` writes the pick as an ordinary Hugging Face checkpoint, where it is within
# its limits; `safemerge export RUN TRIAL` writes any trial.
