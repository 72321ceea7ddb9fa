"""Scores as tables on stdout: likelihoods as numbers from 0 to 1, rates of replies in percent, with
a "~" before those that are estimated from likelihoods."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search.cli.tables import print_table
from search.metrics import IN_NATS, MEANING, METRICS, RETENTION
from search.results.numbers import percent, share

if TYPE_CHECKING:
    from safemerge.score import Score
    from search.results.run import Run

_Rows = Mapping[str, "Mapping[str, Score]"]
# Nothing is replied: the probability that a reply begins like a refusal.
_BY_LIKELIHOOD = {"over_refusal": "begins a refusal", "degenerate": "sentinels degenerate"}


def rate_table(rows: _Rows, title: str) -> None:
    """Rows of rates of replies, in percent with standard errors and n; divergence in nats."""
    metrics = _metrics(rows)
    counts = {m: {row[m].n for row in rows.values() if m in row} for m in metrics}
    same = {metric: min(n) for metric, n in counts.items() if len(n) == 1}
    columns = [
        _heading(metric, metric, "%") + (f"\nn = {same[metric]}" if metric in same else "")
        for metric in metrics
    ]
    cells = [
        [
            name.replace("_", " "),
            *(_cell(m, row.get(m), with_n=m not in same and m not in IN_NATS) for m in metrics),
        ]
        for name, row in rows.items()
    ]
    print_table(title, ["model", *columns], cells, bold="search")


def likelihood_table(rows: _Rows, title: str, estimated: Collection[str] = ()) -> None:
    """Rows of a search's own scores: likelihoods, and the rate of degenerate sentinel replies.

    `estimated` are metrics that are estimated rates instead.
    """
    metrics = _metrics(rows)
    rates = {*estimated, "degenerate"}
    columns = [
        _heading(
            metric,
            metric if metric in estimated else _BY_LIKELIHOOD.get(metric, metric),
            "%" if metric in rates else "",
        )
        for metric in metrics
    ]

    def cell(metric: str, score: Score | None) -> str:
        text = _cell(metric, score, with_n=metric == "degenerate", rate=metric in rates)
        return f"~{text}" if score is not None and metric in estimated else text

    cells = [
        [name.replace("_", " "), *(cell(m, row.get(m)) for m in metrics)]
        for name, row in rows.items()
    ]
    print_table(title, ["model", *columns], cells)


def front_tables(rows: Sequence[Mapping[str, Any]]) -> None:
    """`front_rows` as two tables: of the search, by replies on held-out probes."""
    names = {row["trial"]: _front_name(row) for row in rows}
    likelihoods = {
        names[row["trial"]]: {
            **row["search_likelihood"],
            **row["rate_estimate"],
            **row["sentinel_rate"],
            **row["search_retention"],
        }
        for row in rows
    }
    if likelihoods:
        estimated = {metric for row in rows for metric in row["rate_estimate"]}
        title = (
            "Front: rates of replies, ~ estimated from likelihoods on search probes, ± one "
            "standard error; columns without % are likelihoods, 0 to 1"
            if estimated
            else "Front: likelihood of the wanted answers on search probes, 0 to 1, ± one standard "
            "error; no rates of replies"
        )
        likelihood_table(likelihoods, title, estimated)
    rates = {
        names[row["trial"]]: row["heldout_rate"] for row in rows if row["heldout_rate"] is not None
    }
    if rates:
        rate_table(rates, f"Front: {RATES}")
    shown = [*likelihoods.values(), *rates.values()]
    for metric in [m for m in METRICS if any(m in row for row in shown)]:
        print(f"{metric.replace('_', ' '):<18}  {MEANING[metric]}")


RATES = "rates of replies to held-out probes, ± one standard error"


def front_rows(run: Run) -> list[dict[str, Any]]:
    """The front as records; a key says whether its numbers are likelihoods or rates of replies."""
    from search.results.standing import answered_within, standing

    heldout, within = run.heldout(), answered_within(run)
    pick = run.pick().number if run.candidates else None
    rows = []
    for point in run.reported_points():
        scores = dict(point.scores)
        sentinels = {m: scores.pop(m) for m in ("degenerate",) if m in scores}
        retention = {m: scores.pop(m) for m in RETENTION if m in scores}
        row: dict[str, Any] = {
            "trial": point.number,
            "pick": point.number == pick,
            "within_limits_by_estimate": point.feasible,
            "within_limits_by_replies": within.get(point.number),
            "limits": standing(run, point.number).mark or "within",
            "search_likelihood": scores,
            "rate_estimate": {m: point.shown[m] for m in run.rates.maps if m in point.shown},
            "sentinel_rate": sentinels,
            "search_retention": retention,
            "heldout_rate": None if heldout is None else heldout.front.get(point.number),
        }
        if heldout is not None and row["heldout_rate"] is not None:
            row["likelihood_gap"] = heldout.gap[point.number]
            row["rate_against_pick"] = heldout.against_pick.get(point.number, {})
        rows.append(row)
    return rows


def _front_name(row: Mapping[str, Any]) -> str:
    marks = [
        *(["pick"] if row["pick"] else []),
        *([row["limits"]] if row["limits"] != "within" else []),
    ]
    return f"trial {row['trial']}" + (f" ({', '.join(marks)})" if marks else "")


def _metrics(rows: _Rows) -> list[str]:
    return [metric for metric in METRICS if any(metric in row for row in rows.values())]


def _heading(metric: str, name: str, unit: str) -> str:
    """A name over its unit: percent, nats, or none for a likelihood from 0 to 1."""
    words = name.replace("_", "\n").replace(" ", "\n")
    return words + (", nats" if metric in IN_NATS else f", {unit}" if unit else "")


def _cell(metric: str, score: Score | None, *, with_n: bool = False, rate: bool = True) -> str:
    """The number alone; the heading has its unit."""
    if score is None:
        return "-"
    text = percent(score) if rate and metric not in IN_NATS else share(score)
    return text + (f", n = {score.n}" if with_n and score.n > 1 else "")
