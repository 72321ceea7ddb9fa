"""The verbs about a run that is there: status, front and export."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import typer

from search.cli.options import Json, RunArg


def status(run: RunArg, json_: Json = False) -> None:
    """Show how far a run is."""
    from search.cli.tables import emit_json, say
    from search.results.diagnostics import rates_from, shortfalls
    from search.results.run import Run
    from search.results.standing import standing
    from synth.progress import printable

    loaded = Run.load(run)
    front = loaded.front()
    best = {
        metric: (max if larger else min)(
            (c.scores[metric].value for c in loaded.candidates), default=None
        )
        for metric, larger in loaded.config.directions.items()
    }
    pick = loaded.pick().number if loaded.candidates else None
    within = any(candidate.feasible for candidate in loaded.candidates)
    record: dict[str, Any] = {
        "run": str(run),
        "trials": len(loaded.candidates),
        "of": loaded.config.search.trials,
        "failed": len(loaded.failures()),
        "over": loaded.over,
        "rates_from": {metric: found.models for metric, found in loaded.rates.maps.items()},
        "within_limits_by_estimate": sum(c.feasible for c in loaded.candidates),
        "front": len(front.points),
        "hypervolume_of_likelihoods": front.hypervolume(),
        "best_likelihood": best,
        "pick": pick,
        "pick_limits": None if pick is None else standing(loaded, pick).mark or "within",
        "measured_heldout": loaded.heldout() is not None,
    }
    if json_:
        emit_json(record)
    else:
        volume = f"{front.hypervolume():.3f} of likelihoods"
        told = {
            "run": run,
            "trials": f"{len(loaded.candidates)} of {loaded.config.search.trials}, "
            f"{record['failed']} failed",
            "search is over": "yes" if loaded.over else "no",
            "rates are read from": rates_from(loaded),
            "within limits, by estimate": record["within_limits_by_estimate"],
            "on the front": len(front.points) if within else "none: no trial is within all limits",
            "hypervolume": volume if within else "none: it is of trials within the limits",
            "best likelihood": ", ".join(f"{m} {v:.3f}" for m, v in best.items() if v is not None)
            or "none yet",
            "pick": "none yet"
            if pick is None
            else f"trial {pick}, {record['pick_limits']}"
            + ("" if loaded.over else ", if it ended now"),
            "held-out measurement": "done" if record["measured_heldout"] else "not yet",
        }
        for key, value in told.items():
            lines = wrap(printable(str(value)), 51, break_long_words=False, break_on_hyphens=False)
            typer.echo(f"{key:>27}  " + f"\n{'':29}".join(lines))
    for text in shortfalls(loaded):
        say(text)


def front(
    run: RunArg,
    json_: Json = False,
    csv_: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
) -> None:
    """Show the Pareto front, best first objective first."""
    from search.cli.heldout_tables import difference_table, gap_table, say_statements
    from search.cli.score_tables import front_rows, front_tables
    from search.cli.tables import emit_json, print_csv, say
    from search.results.diagnostics import shortfalls
    from search.results.run import Run

    loaded = Run.load(run)
    rows = front_rows(loaded)
    for text in shortfalls(loaded):
        say(text)
    if json_:
        emit_json(rows)
    elif csv_:
        print_csv(rows)
    else:
        front_tables(rows)
        heldout = loaded.heldout()
        if heldout is not None:
            difference_table(heldout)
            gap_table(heldout)
            say_statements(heldout)


def report(
    run: RunArg,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; default RUN/report.html.")
    ] = None,
) -> None:
    """Write one HTML file that says what a run found: it can be mailed, and opens anywhere.

    It shows replies to held-out probes; harmful ones are folded.
    """
    from safemerge.errors import require
    from search.results.run import Run

    require("plotly", extra="report")
    from search.results.report import write_report

    typer.echo(str(write_report(Run.load(run), out or run / "report.html")))


def export(
    run: RunArg,
    trial: Annotated[
        int | None,
        typer.Argument(
            help="Trial number; default: the pick of a search that is over, within its limits."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to create; default RUN/export.")
    ] = None,
) -> None:
    """Write a trial as an ordinary Hugging Face checkpoint with its card and recipe."""
    from search.cli.tables import progress_bar, say
    from search.results.damage import trial_damage
    from search.results.export import export as write
    from search.results.export import pick_to_export
    from search.results.run import Run

    loaded = Run.load(run)
    number = pick_to_export(loaded) if trial is None else trial
    target = out or run / "export"
    with progress_bar() as report:
        write(loaded, number, target, report)
    damage = trial_damage(loaded, number)
    if damage is not None:
        say(f"{damage}; the card says so too")
    typer.echo(str(target))
