"""Scores as tables on stdout: likelihoods as numbers from 0 to 1, rates of replies in percent, with
a "~" before those that are estimated from likelihoods."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search.cli.tables import print_table
from search.metrics import IN_NATS, METRICS, RETENTION

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
        _heading(metric, metric) + (f"\nn = {same[metric]}" if metric in same else "")
        for metric in metrics
    ]
    cells = [
        [name.replace("_", " "), *(_cell(m, row.get(m), with_n=m not in same) for m in metrics)]
        for name, row in rows.items()
    ]
    print_table(title, ["model", *columns], cells, bold="search")


def likelihood_table(rows: _Rows, title: str, estimated: Collection[str] = ()) -> None:
    """Rows of a search's own scores: likelihoods, and the rate of degenerate sentinel replies.

    `estimated` are metrics that are estimated rates instead.
    """
    metrics = _metrics(rows)
    columns = [
        _heading(metric, metric if metric in estimated else _BY_LIKELIHOOD.get(metric, metric))
        for metric in metrics
    ]
    cells = []
    for name, row in rows.items():
        found = [
            _estimate(row.get(metric))
            if metric in estimated
            else _rate(row.get(metric), with_n=True)
            if metric == "degenerate"
            else _likelihood(row.get(metric))
            for metric in metrics
        ]
        cells.append([name.replace("_", " "), *found])
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
            "standard error; numbers without % are likelihoods, 0 to 1"
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


def _heading(metric: str, name: str) -> str:
    return name.replace("_", " ") + (", nats" if metric in IN_NATS else "")


def _cell(metric: str, score: Score | None, *, with_n: bool) -> str:
    return _likelihood(score) if metric in IN_NATS else _rate(score, with_n=with_n)


def _rate(score: Score | None, *, with_n: bool) -> str:
    if score is None:
        return "-"
    if score.n == 1:
        return f"{100 * score.value:.1f} %, one probe"
    n = f", n = {score.n}" if with_n else ""
    return f"{100 * score.value:.1f} % ± {100 * score.stderr:.1f}{n}"


def _estimate(score: Score | None) -> str:
    return "-" if score is None else f"~{100 * score.value:.1f} % ± {100 * score.stderr:.1f}"


def _likelihood(score: Score | None) -> str:
    if score is None:
        return "-"
    if score.n == 1:
        return f"{score.value:.3f}, one probe"
    return f"{score.value:.3f} ± {score.stderr:.3f}"
