"""A run as pandas frames: trials, their numbers, weights over depth, answers, categories."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

from safemerge.errors import BadInput, SafemergeError
from safemerge.names import depth_order
from safemerge.recipe import Recipe
from safemerge.score import mean_score
from search.results.heldout_answers import heldout_answers
from search.results.run import Run
from search.runs.probe_sets import load_probes

_DEPTH = re.compile(r"^(?:layer|block)\.(\d+)(?:\.(.+))?$")


def trial_frame(run: Run) -> pd.DataFrame:
    """A row for each finished trial: `trial`, `feasible`, `on_front`, `pick`, `violation`, and
    `METRIC` with `METRIC_stderr`, by likelihood on the search probes."""
    on_front = {point.number for point in run.front().points}
    pick = run.pick().number if run.candidates else None
    rows = []
    for candidate in run.candidates:
        row: dict[str, object] = {
            "trial": candidate.number,
            "feasible": candidate.feasible,
            "on_front": candidate.number in on_front,
            "pick": candidate.number == pick,
            "violation": candidate.violation,
        }
        for metric, score in candidate.scores.items():
            row[metric], row[f"{metric}_stderr"] = score.value, score.stderr
        rows.append(row)
    return pd.DataFrame(rows)


def number_frame(run: Run, trials: Iterable[int] | None = None) -> pd.DataFrame:
    """The searched numbers, a row for each trial (index) and a column for each that differs.

    Columns are `GROUP:SOURCE` for weights, `GROUP:rank` for rank ratios, `NUMBER.GROUP:SOURCE`,
    and the method's parameters by name; choices are left out. Groups are in the order of depth.
    """
    wanted = None if trials is None else set(trials)
    rows = {
        candidate.number: _numbers(candidate.recipe)
        for candidate in run.candidates
        if wanted is None or candidate.number in wanted
    }
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame = frame[sorted(frame.columns, key=lambda name: depth_order(name.partition(":")[0]))]
    return frame.loc[:, frame.nunique(dropna=False) > 1]


def weight_frame(run: Run, trials: Iterable[int]) -> pd.DataFrame:
    """Weights and rank ratios of some trials, a row for each group and source.

    Columns: `trial`, `group`, `depth` (layer or block; none outside the stack), `part` (kind or
    module within it), `source`, `weight`, `rank_ratio`. Groups are in the order of depth.
    """
    rows = []
    for number in trials:
        recipe = run.dir.trial_recipe(number)
        for group in sorted(recipe.weights, key=depth_order):
            match = _DEPTH.match(group)
            weights = zip(recipe.sources, recipe.weights_at(group), strict=True)
            for source, weight in weights:
                rows.append(
                    {
                        "trial": number,
                        "group": group,
                        "depth": int(match[1]) if match else None,
                        "part": (match[2] or "") if match else group,
                        "source": source.name,
                        "weight": weight,
                        "rank_ratio": recipe.rank_ratio_at(group),
                    }
                )
    return pd.DataFrame(rows)


def answer_frame(run: Run) -> pd.DataFrame:
    """Held-out answers, a row for each model and probe; empty where nothing was measured.

    Columns: `model` (row of the held-out table), `id`, `axis`, `category`, `prompt`, `wanted`,
    `reply`, `verdict`, `correct`. A BadInput where the probes of the run cannot be read any more.
    """
    answers = heldout_answers(run)
    if not answers:
        return pd.DataFrame()
    try:
        probes = {probe.id: probe for probe in load_probes(run.config)}
    except SafemergeError as error:
        raise BadInput(f"the probes of {run.dir.path} cannot be read: {error}") from error
    return pd.DataFrame(
        [
            {
                "model": model,
                "id": answer.id,
                "axis": answer.axis,
                "category": probe.category,
                "prompt": probe.prompt,
                "wanted": probe.answer,
                "reply": answer.reply,
                "verdict": answer.verdict,
                "correct": answer.correct,
            }
            for model, given in answers.items()
            for answer in given
            if (probe := probes.get(answer.id)) is not None
        ]
    )


def category_frame(answers: pd.DataFrame) -> pd.DataFrame:
    """`answer_frame` by `model`, `axis`, `category`: `right`, `n`, `rate` and `stderr`."""
    rows = []
    for (model, axis, category), part in answers.groupby(["model", "axis", "category"], sort=False):
        score = mean_score(part["correct"].astype(float))
        rows.append(
            {
                "model": model,
                "axis": axis,
                "category": category,
                "right": int(part["correct"].sum()),
                "n": score.n,
                "rate": score.value,
                "stderr": score.stderr,
            }
        )
    return pd.DataFrame(rows)


def flips(answers: pd.DataFrame, model: str, other: str) -> pd.DataFrame:
    """Probes that one of two models answers right and the other does not, side by side.

    Columns: `axis`, `category`, `prompt`, `wanted`, `MODEL`, `OTHER` (the replies), and `gained`,
    whether it is `model` that is right.
    """
    sides = [answers[answers["model"] == name].set_index("id") for name in (model, other)]
    for name, side in zip((model, other), sides, strict=True):
        if side.empty:
            known = ", ".join(answers["model"].unique()) if len(answers) else "none"
            raise BadInput(f"there are no held-out answers of {name!r}; there are: {known}")
    one, two = sides
    both = one.join(two[["reply", "correct"]], rsuffix="_other", how="inner")
    both = both[both["correct"] != both["correct_other"]]
    return both.rename(columns={"correct": "gained", "reply": model, "reply_other": other})[
        ["axis", "category", "prompt", "wanted", model, other, "gained"]
    ]


def _numbers(recipe: Recipe) -> dict[str, float]:
    row = {
        f"{group}:{source}": weight
        for group, by_source in recipe.weights.items()
        for source, weight in by_source.items()
    }
    row.update({f"{group}:rank": ratio for group, ratio in recipe.rank_ratio.items()})
    row.update(
        {
            f"{number}.{group}:{source}": value
            for number, groups in recipe.per_source.items()
            for group, by_source in groups.items()
            for source, value in by_source.items()
        }
    )
    params = {k: v for k, v in recipe.params.items() if isinstance(v, (int, float))}
    return {**row, **{name: float(value) for name, value in params.items()}}
