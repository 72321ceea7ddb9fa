"""Task arithmetic with one weight for everything: the uniform merge, and the best single weight.

theta = base + w * sum_i D_i (Ilharco et al. 2023, 2212.04089), with w from a grid.
"""

from __future__ import annotations

from safemerge.recipe import Recipe
from safemerge.score import Scores
from search.runs.workbench import Workbench
from synth.probes.probe import AXES
from synth.progress import Report, silent

GRID = tuple(round(0.1 * step, 1) for step in range(1, 16))


def single_weight(template: Recipe, weight: float) -> Recipe:
    """Task arithmetic with one weight for every source and place."""
    return Recipe(
        base=template.base,
        sources=template.sources,
        method="task_arithmetic",
        weights={"default": {source.name: weight for source in template.sources}},
        dtype=template.dtype,
        tokenizer=template.tokenizer,
    )


def uniform(template: Recipe) -> Recipe:
    """The average of the sources."""
    return single_weight(template, 1.0 / len(template.sources))


def best_single_weight(bench: Workbench, report: Report = silent) -> Recipe:
    """The grid's best weight on the search probes, by the mean over the axes."""
    stage, means = "best single weight", list[float]()
    recipes = [single_weight(bench.space.template, weight) for weight in GRID]
    for weight, recipe in zip(GRID, recipes, strict=True):
        report(stage, len(means), len(GRID), f"weight {weight}")
        means.append(axis_mean(bench.measure(recipe).scores))
    report(stage, len(GRID), len(GRID), "")
    return recipes[means.index(max(means))]


def axis_mean(scores: Scores) -> float:
    """Mean over the axes that were measured."""
    values = [scores[axis].value for axis in AXES if axis in scores]
    return sum(values) / len(values)
