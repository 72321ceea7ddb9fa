"""The held-out measurement as the command line prints it: tables on stdout, sentences on stderr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from search.cli.tables import print_table, say, score_table

if TYPE_CHECKING:
    from search.results.heldout_record import HeldOut
    from search.scoring.bootstrap import Difference
    from search.scoring.gap import Gap


def heldout_report(found: HeldOut) -> None:
    """All rows, the gap, and what it comes to."""
    score_table(found.rows, "Held-out scores in percent, ± one standard error")
    gap_table(found)
    say_statements(found)


def gap_table(found: HeldOut) -> None:
    """The front's likelihoods on held-out probes, and their gap to those on search probes."""
    _table(
        found,
        "Likelihood of the wanted answers on held-out probes in percent; search minus held-out in "
        "points, ± one standard error",
        {
            number: {axis: _gap(one) for axis, one in row.items()}
            for number, row in found.gap.items()
        },
    )


def difference_table(found: HeldOut) -> None:
    """The front's held-out scores against those of the pick."""
    _table(
        found,
        "Held-out scores minus the pick's in points, 95 % interval (paired bootstrap), * apart",
        {
            number: {axis: _difference(one) for axis, one in row.items()}
            for number, row in found.against_pick.items()
        },
    )


def say_statements(found: HeldOut) -> None:
    """The sentences, one a line."""
    for sentence in found.statements:
        say(sentence)


def _table(found: HeldOut, title: str, rows: Mapping[int, Mapping[str, str]]) -> None:
    """Cells by trial and axis; nothing where there are no rows."""
    if not rows:
        return
    axes: Sequence[str] = list(next(iter(rows.values())))
    table = Table(title=title, title_justify="left")
    table.add_column("front", no_wrap=True)
    for axis in axes:
        table.add_column(axis, justify="right")
    for number, row in rows.items():
        name = f"trial {number}{' (pick)' if number == found.pick else ''}"
        table.add_row(name, *(row[axis] for axis in axes))
    print_table(table)


def _gap(one: Gap) -> str:
    return f"{100 * one.heldout.value:.1f}; {100 * one.value:+.1f} ± {100 * one.stderr:.1f}"


def _difference(one: Difference) -> str:
    interval = f"{100 * one.low:+.1f} to {100 * one.high:+.1f}"
    return f"{100 * one.value:+.1f} ({interval}){' *' if one.apart else ''}"
