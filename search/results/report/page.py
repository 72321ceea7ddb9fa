"""`safemerge report`: a run as one HTML file that holds all it needs and asks nobody for anything.

Whatever a model or a file has said goes through Jinja's autoescape, with control characters
spelled out, and figures carry names alone. The page's own policy (CSP) allows the two scripts that
it is written with, by their hashes, and no request, so that what slipped through would not run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from safemerge.atomic import replacing
from safemerge.errors import BadInput, SafemergeError
from safemerge.score import Score
from search.metrics import IN_NATS, MEANING, METRICS
from search.results import figures
from search.results.figures.front import UNSAFE
from search.results.heldout_answers import heldout_answers
from search.results.numbers import percent, points, share
from search.results.report.decision import Decision, decision, named
from search.results.run import Run
from search.results.standing import standing
from search.results.summary import shown_judge
from search.runs.probe_sets import load_probes
from synth.probes.probe import AXES, SPLITS
from synth.progress import printable

_FLIPS = 20  # of two models that are shown, losses first
_FRONT_ROWS = 100
_LONGEST = 1200  # characters of a text that are shown
_WORDS = {
    "trial": "one merge with its scores",
    "front": "the trials within the limits that no other trial beats in every objective",
    "pick": "the one trial of the front that the search recommends",
    "likelihood": "probability that a model gives to the wanted answer, from 0 to 1: it ranks "
    "trials, and is no rate of replies",
    "± and bars": "one standard error",
    "told apart": "by McNemar's test at 5 %, over all comparisons of a table together (Holm)",
    "hypervolume": "share of the space of objectives that the front dominates, from 0 to 1",
    "uniform": "the plain average of the sources",
    "best single weight": "the best merge with one weight for all sources and layers",
}
_HARMFUL = ("harmless", "helpful")  # axes whose texts are folded: harmful prompts, and their twins


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure of the page."""

    id: str
    title: str
    said: str  # in words
    height: int
    record: str  # JSON of plotly


@dataclass(frozen=True, slots=True)
class Flip:
    """A probe that two models answer differently."""

    axis: str
    category: str
    gained: bool
    texts: Mapping[str, str]  # `{what it is: text}`
    folded: bool


def write_report(run: Run, out: str | Path) -> Path:
    """Write the page; an OSError where it cannot be written."""
    out = Path(out)
    with replacing(out) as file:
        file.write(page(run))
    return out


def page(run: Run) -> str:
    """The page as HTML."""
    answers = heldout_answers(run)
    decided = decision(run, answers)
    try:
        frame, missing = figures.answer_frame(run) if answers else pd.DataFrame(), False
    except BadInput:
        frame, missing = pd.DataFrame(), True
    plotly, script = get_plotlyjs(), _file("page.js")
    heldout = run.heldout()
    return (
        _environment()
        .from_string(_file("page.html"))
        .render(
            policy=_policy(plotly, script),
            plotly=Markup(plotly),
            script=Markup(script),
            style=Markup(_file("page.css")),
            name=run.dir.path.resolve().name,
            run=run,
            decided=decided,
            gains=_gain_table(run, decided),
            plots=_plots(run),
            categories=_categories(run, frame),
            table=_heldout_table(run),
            front=_front_table(run),
            flips=_flip_pairs(run, frame),
            missing=missing,
            statements=() if heldout is None else heldout.statements,
            judge="" if heldout is None else shown_judge(heldout.judge),
            facts=_facts(run),
            probes=_probe_counts(run),
            splits=SPLITS,
            words=_words(run),
        )
    )


def _plots(run: Run) -> dict[str, list[Plot]]:
    """`{section: figures}`, without those that the run has nothing for."""
    shares = figures.importances(run)
    made = {
        "front": [figures.heldout_front(run), figures.search_front(run), figures.three_h(run)],
        "trust": [figures.generalization(run), figures.hypervolume_over_evaluations(run)],
        "made": [figures.depth_profiles(run), figures.weight_map(run)],
        "mattered": [
            figures.parameter_importance(shares),
            figures.slices(run, shares),
            figures.parallel_coordinates(run),
        ],
    }
    return {
        section: [
            _plot(f"{section}-{i}", figure) for i, figure in enumerate(some) if figure is not None
        ]
        for section, some in made.items()
    }


def _categories(run: Run, answers: pd.DataFrame) -> list[Plot]:
    sources = [source.name for source in run.config.models.sources]
    models = ["base", *sources, UNSAFE, "search"]
    made = {axis: figures.categories(answers, models, axis) for axis in AXES}
    return [_plot(f"category-{axis}", f) for axis, f in made.items() if f is not None]


def _plot(name: str, figure: go.Figure) -> Plot:
    record = json.loads(figure.to_json())
    layout = record["layout"]
    title, said, height = layout.pop("title")["text"], layout.pop("meta")["said"], layout["height"]
    layout.pop("template", None)
    layout["margin"]["t"] = 46 if "annotations" in layout else 24
    text = json.dumps(record, separators=(",", ":"))
    # Inside a script element nothing but "</script" and "<!--" means anything.
    return Plot(name, title, said, height, text.replace("<", "\\u003c"))


def _gain_table(run: Run, decided: Decision) -> dict[str, dict[str, tuple[str, bool]]]:
    """`{row: {axis: (text, whether it is apart)}}`."""
    return {
        named(run, row): {axis: (points(one), one.apart) for axis, one in axes.items()}
        for row, axes in decided.gains.items()
    }


def _heldout_table(run: Run) -> tuple[list[str], dict[str, list[str]]]:
    """Headings and rows of the held-out table."""
    heldout = run.heldout()
    if heldout is None:
        return [], {}
    pick = heldout.rows["search"]
    metrics = [metric for metric in METRICS if metric in pick]
    rows = {
        (f"pick, trial {heldout.pick}" if row == "search" else row.replace("_", " ")): [
            _cell(metric, scores.get(metric)) for metric in metrics
        ]
        for row, scores in heldout.rows.items()
    }
    return [f"{_unit(metric)}\nn = {pick[metric].n}" for metric in metrics], rows


def _front_table(run: Run) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Headings and rows of the front's points, and the pick."""
    if not run.candidates:
        return [], []
    heldout, pick = run.heldout(), run.pick().number
    objectives = run.config.objective_names
    head = [*(f"{name}\nlikelihood" for name in objectives)]
    if heldout is not None:
        head += [f"{_unit(name)}\nheld out" for name in objectives]
    head += ["limits", *(["apart from the pick"] if heldout is not None else [])]
    rows = []
    for point in run.reported_points()[:_FRONT_ROWS]:
        cells = [share(point.scores[name]) for name in objectives]
        if heldout is not None:
            scores = heldout.front.get(point.number, {})
            cells += [_cell(name, scores.get(name)) for name in objectives]
        cells.append(standing(run, point.number).mark or "within")
        if heldout is not None:
            apart = heldout.against_pick.get(point.number, {})
            told = [f"{axis} {points(one)}" for axis, one in apart.items() if one.apart]
            unknown = "it is the pick" if point.number == pick else "not measured"
            cells.append("; ".join(told) or ("no" if apart else unknown))
        name = f"trial {point.number}" + (", the pick" if point.number == pick else "")
        rows.append((name, cells))
    return head, rows


def _flip_pairs(run: Run, answers: pd.DataFrame) -> dict[str, tuple[int, int, list[Flip]]]:
    """`{other model: (gained, lost, those that are shown)}` of the pick against others."""
    if answers.empty:
        return {}
    sources = [source.name for source in run.config.models.sources]
    there = set(answers["model"])
    found = {}
    for other in ("base", UNSAFE, *sources):
        if other in there and "search" in there:
            frame = figures.flips(answers, "search", other)
            rows = frame.sort_values("gained", kind="stable").head(_FLIPS)
            gained = int(frame["gained"].sum())
            shown = [_flip(row, named(run, other), other) for row in rows.to_dict("records")]
            found[named(run, other)] = (gained, len(frame) - gained, shown)
    return found


def _flip(row: Mapping[str, Any], noun: str, other: str) -> Flip:
    texts = {
        "asked": row["prompt"],
        "wanted": row["wanted"],
        "the pick": row["search"],
        noun: row[other],
    }
    return Flip(
        axis=row["axis"],
        category=row["category"],
        gained=bool(row["gained"]),
        texts={name: _short(str(text)) for name, text in texts.items()},
        folded=row["axis"] in _HARMFUL,
    )


def _facts(run: Run) -> dict[str, str]:
    """What was run, by name; no paths of the machine."""
    config, lock = run.config, run.dir.read("lock.json") or {}
    limits = [f"{metric} {limit.text}" for metric, limit in config.limits.items()]
    stopped = run.front_record()
    facts = {
        "base": Path(config.models.base).name,
        "sources": ", ".join(source.name for source in config.models.sources),
        "method": ", ".join(config.merge.methods),
        "place groups": config.space.places,
        "objectives": ", ".join(config.objective_names),
        "limits": "; ".join(limits) or "none",
        "trials": f"{len(run.candidates)} finished of {config.search.trials}, "
        f"{len(run.failures())} failed",
        "evaluations charged": f"{run.evaluations:,}",
        "ended": "not yet" if stopped is None else stopped.stopped,
        "judge of the search": " and ".join(config.probes.judges),
        "sampler": config.search.sampler,
        "seed": str(config.seed),
    }
    versions = lock.get("versions", {})
    facts["versions"] = ", ".join(f"{name} {number}" for name, number in versions.items())
    return {name: value for name, value in facts.items() if value}


def _probe_counts(run: Run) -> dict[str, list[int]]:
    """`{axis: counts by split}`; empty where the probes cannot be read any more."""
    try:
        probes = load_probes(run.config)
    except SafemergeError:
        return {}
    counts = {axis: [len(probes.split(s).axis(axis)) for s in SPLITS] for axis in AXES}
    return {axis: row for axis, row in counts.items() if sum(row)}


def _words(run: Run) -> dict[str, str]:
    """What the columns mean, and the words of the page."""
    shown = {metric for candidate in run.candidates[:1] for metric in candidate.scores}
    heldout = run.heldout()
    shown |= set() if heldout is None else heldout.rows["search"].keys()
    metrics = {m.replace("_", " "): MEANING[m] for m in METRICS if m in shown}
    return {**metrics, **_WORDS}


def _cell(metric: str, score: Score | None) -> str:
    if score is None:
        return "–"
    return share(score) if metric in IN_NATS else percent(score)


def _unit(metric: str) -> str:
    return metric.replace("_", " ") + (", nats" if metric in IN_NATS else ", %")


def _short(text: str) -> str:
    left = len(text) - _LONGEST
    return text if left <= 0 else f"{text[:_LONGEST]} … ({left} characters more)"


def _file(name: str) -> str:
    return files("search.results.report").joinpath(name).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    """Content security policy: these scripts, styles of the page, nothing from anywhere."""
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    ]
    return (
        f"default-src 'none'; script-src {' '.join(hashes)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _environment() -> Environment:
    def text(value: object) -> object:
        if isinstance(value, Markup) or not isinstance(value, str):
            return value
        return printable(value)

    return Environment(
        autoescape=True,
        finalize=text,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


__all__: Sequence[str] = ("page", "write_report")
