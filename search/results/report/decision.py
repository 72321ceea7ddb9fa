"""What a decision needs, in sentences: the pick, what it gains and loses, and against whom.

Differences are paired, on the same held-out probes. "Gains" and "loses" are what McNemar's test
tells apart at 5 % over all comparisons together (Holm); intervals are each of its own comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from search.results.damage import trial_damage
from search.results.diagnostics import failed, nothing_within
from search.results.figures.front import UNSAFE
from search.results.numbers import listed
from search.results.run import Run
from search.results.standing import standing
from search.results.summary import shown_judge
from search.scoring.generation import Answer
from search.scoring.paired_differences import Difference, paired_differences

Gains = Mapping[str, Mapping[str, Difference]]
"""`{row of the held-out table: {axis: the pick minus it}}`."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The first thing to read."""

    headline: str
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    gains: Gains  # empty where nothing was measured


def decision(run: Run, answers: Mapping[str, Sequence[Answer]]) -> Decision:
    """Of a run in any state; `answers` are those of `heldout_answers`."""
    if not run.candidates:
        headline = f"No trial of {run.config.search.trials} has finished yet: nothing to decide."
        return Decision(headline, (), _mailable(run, [failed(run)]), {})
    pick = run.pick().number
    found = standing(run, pick)
    limits = "keeps all limits" if not found.outside else f"is {found.mark}"
    how = {
        "replies": "by its replies to the validation probes",
        "estimate": "by estimate",
        "likelihood": "by likelihood",
    }[found.how]
    sources = listed([source.name for source in run.pick().recipe.sources])
    method = run.pick().recipe.method
    if run.over:
        headline = f"The pick is trial {pick}: {sources} merged by {method}."
    else:
        tried = f"{len(run.candidates)} of {run.config.search.trials} trials"
        headline = f"The search is not over ({tried}). If it ended now, trial {pick} might be it."
    sentences = [f"It {limits}, {how}." if not found.outside else f"It {limits}: {found.text}."]
    gains = pick_gains(answers)
    if not gains:
        sentences.append(
            "It is not measured on held-out probes yet, so nothing is known of what it gains and "
            "loses: `safemerge search` with the run's config measures it."
        )
    else:
        sentences += _told(run, gains, answers)
    texts = (failed(run), nothing_within(run), trial_damage(run, pick))
    return Decision(headline, tuple(sentences), _mailable(run, texts), gains)


def pick_gains(answers: Mapping[str, Sequence[Answer]]) -> Gains:
    """How much better the pick is than every other row, axis by axis; empty without answers."""
    if "search" not in answers:
        return {}
    ids = [answer.id for answer in answers["search"]]
    others = {
        row: given
        for row, given in answers.items()
        if row != "search" and not row.startswith("trial ") and [a.id for a in given] == ids
    }
    table = paired_differences(others, answers["search"])
    return {
        row: {
            axis: replace(one, value=-one.value, low=-one.high, high=-one.low)
            for axis, one in axes.items()
        }
        for row, axes in table.items()
    }


def named(run: Run, row: str) -> str:
    """A row of the held-out table as a noun."""
    if row in [source.name for source in run.config.models.sources]:
        return f"the source {row}"
    plain = {"uniform": "the plain average", "search": "the pick"}
    return plain.get(row, f"the {row.replace('_', ' ')}")


def _mailable(run: Run, texts: Iterable[str | None]) -> tuple[str, ...]:
    """Sentences without the folder that the run lies in."""
    return tuple(text.replace(str(run.dir.path), "RUN") for text in texts if text)


def _told(run: Run, gains: Gains, answers: Mapping[str, Sequence[Answer]]) -> list[str]:
    sources = [source.name for source in run.config.models.sources]
    rows = [row for row in ("base", *sources, UNSAFE) if row in gains]
    sentences = [_cost(run, gains, answers)]
    sentences += [_against(named(run, row), gains[row]) for row in rows]
    if UNSAFE not in gains:
        sentences.append(
            "The same search without safety was not run, so the price of safety is not known: "
            "`safemerge search CONFIG --baseline without_safety` measures it."
        )
    compared = sum(len(axes) for axes in gains.values())
    axes = next(iter(gains.values()))
    counts = {axis: len([a for a in answers["search"] if a.axis == axis]) for axis in axes}
    heldout = run.heldout()
    judge = "" if heldout is None else f" The judge was {shown_judge(heldout.judge)}."
    return [
        *sentences,
        f"All of it is counted on replies to the same held-out probes "
        f"({listed([f'{n} {axis}' for axis, n in counts.items()])}).{judge} Gains and losses "
        f"are what can be told apart at 5 % over all {compared} comparisons together; intervals "
        "in brackets are at 95 %, each of its own comparison.",
    ]


def _cost(run: Run, gains: Gains, answers: Mapping[str, Sequence[Answer]]) -> str:
    """Where the pick is behind the best of base and sources."""
    models = ["base", *(source.name for source in run.config.models.sources)]
    behind, axes = [], list(next(iter(gains.values())))
    for axis in axes:
        found, row = min(
            ((gains[model][axis], model) for model in models if model in gains),
            key=lambda pair: pair[0].value,
            default=(None, ""),
        )
        if found is not None and found.apart and found.value < 0:
            behind.append(f"{_by(axis, found)} behind {named(run, row)}, the best there")
    rates = {
        axis: sum(a.correct for a in given) / len(given)
        for axis in axes
        if (given := [a for a in answers["search"] if a.axis == axis])
    }
    told = listed([f"{axis} {100 * rate:.1f} %" for axis, rate in rates.items()])
    cost = (
        f"Its price: {listed(behind)}."
        if behind
        else "On no axis is it behind the best of base and sources by more than chance."
    )
    return f"Right on held-out probes: {told}. {cost}"


def _against(noun: str, axes: Mapping[str, Difference]) -> str:
    gained = {axis: d for axis, d in axes.items() if d.apart and d.value > 0}
    lost = {axis: d for axis, d in axes.items() if d.apart and d.value < 0}
    rest = [axis for axis in axes if axis not in gained and axis not in lost]
    told = [
        "gains " + listed([_by(axis, d) for axis, d in gained.items()]) if gained else "",
        "loses " + listed([_by(axis, d) for axis, d in lost.items()]) if lost else "",
    ]
    if not gained and not lost:
        return f"Against {noun}: no difference can be told on any axis."
    clause = " and ".join(text for text in told if text)
    if gained and not lost:
        clause += ", and loses nothing that can be told"
    alike = f"; alike on {listed(rest)}, as far as can be told" if rest else ""
    return f"Against {noun} it {clause}{alike}."


def _by(axis: str, difference: Difference) -> str:
    low, high = sorted((abs(100 * difference.low), abs(100 * difference.high)))
    return f"{abs(100 * difference.value):.1f} points of {axis} ({low:.1f} to {high:.1f})"
