"""What the searches of search_quality.py add up to: a record, a table, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

GRADIENT = "gradient"
# The best of these is what the gradient search is compared with; other samplers only have a row.
RIVALS = ("random", "nsga2", "cmaes", "tpe")
Result = dict[str, Any]  # of one search: seed, space, sampler, curve, pick, gap, numbers, cpu_s


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """By space: every curve, and how the gradient search compares with the best sampler.

    Of each seed, `best` is the one of RIVALS whose front has the largest held-out hypervolume at
    its end; `needed` the smallest budget with which the gradient search reaches that, or None;
    `ratio` that of the largest budget's hypervolume to it; `ahead` the points by which its pick's
    held-out mean of the axes is ahead of the best one of the rivals' picks.
    """
    record: dict[str, Any] = {}
    for space in dict.fromkeys(result["space"] for result in results):
        here = [result for result in results if result["space"] == space]
        seeds = list(dict.fromkeys(result["seed"] for result in here))
        samplers = list(dict.fromkeys(result["sampler"] for result in here))
        record[space] = {
            "numbers": next(filter(None, (result["numbers"] for result in here)), 0),
            "per_axis": here[0]["per_axis"],
            "curves": {
                sampler: _curve([r for r in here if r["sampler"] == sampler])
                for sampler in samplers
            },
            "ends": {sampler: _end(here, seeds, sampler) for sampler in samplers},
            "seeds": {
                str(seed): _compared([r for r in here if r["seed"] == seed]) for seed in seeds
            },
        }
    return record


def _curve(results: Sequence[Result]) -> dict[str, dict[str, list[float]]]:
    """`{evaluations: {key: values over seeds}}`; a gradient search counts at its end alone."""
    found: dict[int, dict[str, list[float]]] = {}
    for result in results:
        points = result["curve"]
        for point in points[-1:] if result["sampler"] == GRADIENT else points:
            at = found.setdefault(point["evaluations"], {"heldout": [], "search": [], "cpu_s": []})
            for key, values in at.items():
                values.append(point[key])
    return {str(n): found[n] for n in sorted(found)}


def _end(results: Sequence[Result], seeds: Sequence[int], sampler: str) -> dict[str, list[float]]:
    """Of the longest search of each seed: the pick's mean in percent, gap in points, CPU s."""
    own = [[r for r in results if r["seed"] == seed and r["sampler"] == sampler] for seed in seeds]
    last = [max(one, key=lambda r: r["curve"][-1]["evaluations"]) for one in own if one]
    return {
        "pick": [100 * fmean(result["pick"].values()) for result in last],
        "gap": [100 * result["gap"] for result in last],
        "cpu_s": [result["cpu_s"] for result in last],
    }


def _compared(results: Sequence[Result]) -> dict[str, Any]:
    """The comparison of one seed, see `summary`."""
    ends = {
        (r["sampler"], r["curve"][-1]["evaluations"]): (
            r["curve"][-1]["heldout"],
            100 * fmean(r["pick"].values()),
        )
        for r in results
    }
    samplers = {key: end for key, end in ends.items() if key[0] in RIVALS}
    own = {budget: end for (name, budget), end in ends.items() if name == GRADIENT}
    if not samplers or not own:
        return {}
    best = max(samplers, key=lambda key: samplers[key][0])
    level = samplers[best][0]
    reached = [budget for budget, (volume, _) in own.items() if volume >= level]
    volume, pick = own[max(own)]
    return {
        "best": best[0],
        "level": level,
        "needed": min(reached, default=None),
        "ratio": volume / level if level else None,
        "ahead": pick - max(mean for _, mean in samplers.values()),
    }


def table(record: dict[str, Any]) -> str:
    """The record as Markdown: held-out hypervolume, median (range), at every checkpoint."""
    lines = []
    for space, here in record.items():
        points = sorted({int(n) for curve in here["curves"].values() for n in curve})
        lines += [
            "",
            f"{space}, {here['numbers']} numbers, {here['per_axis']} probes for each axis",
            "",
            "| search | " + " | ".join(map(str, points)) + " | pick | gap | CPU s |",
            "| --- |" + " --- |" * (len(points) + 3),
        ]
        for sampler, curve in here["curves"].items():
            cells = [
                _spread(curve[str(n)]["heldout"], 2) if str(n) in curve else "" for n in points
            ]
            end = here["ends"][sampler]
            cells += [_spread(end["pick"], 1), _spread(end["gap"], 1), _spread(end["cpu_s"], 0)]
            lines.append(f"| {sampler} | " + " | ".join(cells) + " |")
        for seed, compared in here["seeds"].items():
            lines.append(f"\nseed {seed}: {compared}" if compared else "")
    return "\n".join(lines)


def _spread(values: Sequence[float], digits: int) -> str:
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, median, max))
    return f"{middle} ({low} to {high})" if len(values) > 1 else middle


def draw(record: dict[str, Any], path: Path) -> None:
    """Held-out hypervolume against evaluations, and below against CPU seconds, of every space with
    more than one kind of search: medians as lines, ranges as bands.
    """
    try:
        from matplotlib import pyplot
    except ImportError:
        print(f"no picture: {path.name} needs matplotlib; pip install -e '.[benchmarks]'")
        return
    pyplot.rcParams["svg.hashsalt"] = "safemerge"  # the same picture from the same numbers
    shown = {space: here for space, here in record.items() if len(here["curves"]) > 1}
    if not shown:
        return
    figure, rows = pyplot.subplots(
        2, len(shown), figsize=(4.2 * len(shown), 7.0), sharey=True, squeeze=False
    )
    kinds = dict.fromkeys(sampler for here in shown.values() for sampler in here["curves"])
    colours = {sampler: f"C{i % 10}" for i, sampler in enumerate(kinds)} | {GRADIENT: "black"}
    lines: dict[str, Any] = {}
    for column, (space, here) in enumerate(shown.items()):
        for sampler, curve in here["curves"].items():
            values = [at["heldout"] for at in curve.values()]
            low, high = [min(v) for v in values], [max(v) for v in values]
            style = "o-" if sampler == GRADIENT or len(curve) == 1 else "-"
            seconds = [median(at["cpu_s"]) for at in curve.values()]
            for axis, at in zip(rows[:, column], ([int(n) for n in curve], seconds), strict=True):
                colour = colours[sampler]
                (lines[sampler],) = axis.plot(at, [median(v) for v in values], style, color=colour)
                axis.fill_between(at, low, high, alpha=0.1, color=colour)
        rows[0, column].set(title=f"{space}, {here['numbers']} numbers")
        ticks = {"evaluations": (20, 60, 120, 300), "CPU seconds": (3, 10, 30, 100)}
        for axis, (label, at) in zip(rows[:, column], ticks.items(), strict=True):
            axis.set(xscale="log", xlabel=label)
            axis.set_xticks(at, labels=map(str, at))
            axis.minorticks_off()
    for axis in rows[:, 0]:
        axis.set(ylabel="held-out hypervolume", ylim=(0, 1))
    figure.tight_layout()
    figure.legend(lines.values(), lines, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
