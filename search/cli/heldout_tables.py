"""The held-out measurement as the command line prints it: tables on stdout, sentences on stderr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from search.cli.tables import print_table, say, score_table

if TYPE_CHECKING:
    from search.results.heldout_record import HeldOut
    from search.scoring.bootstrap import Difference
    from search.scoring.gap import Gap


def heldout_report(heldout: HeldOut) -> None:
    """All rows, the gap, and the sentences."""
    score_table(heldout.rows, "Held-out scores in percent, ± one standard error")
    gap_table(heldout)
    say_statements(heldout)


def gap_table(heldout: HeldOut) -> None:
    """The front's likelihoods on held-out probes, and their gap to those on search probes."""
    _table(
        heldout,
        "Likelihood of the wanted answers on held-out probes in percent; search minus held-out in "
        "points, ± one standard error",
        {
            number: {axis: _gap(gap) for axis, gap in row.items()}
            for number, row in heldout.gap.items()
        },
    )


def difference_table(heldout: HeldOut) -> None:
    """The front's held-out scores against those of the pick."""
    _table(
        heldout,
        "Held-out scores minus the pick's in points, 95 % interval (paired bootstrap), * apart",
        {
            number: {axis: _difference(cell) for axis, cell in row.items()}
            for number, row in heldout.against_pick.items()
        },
    )


def say_statements(heldout: HeldOut) -> None:
    for sentence in heldout.statements:
        say(sentence)


def _table(heldout: HeldOut, title: str, rows: Mapping[int, Mapping[str, str]]) -> None:
    """Cells by trial and axis; nothing where there are no rows."""
    if not rows:
        return
    axes = list(next(iter(rows.values())))
    cells = [
        [f"trial {number}{' (pick)' if number == heldout.pick else ''}", *map(row.get, axes)]
        for number, row in rows.items()
    ]
    print_table(title, ["front", *axes], cells)


def _gap(gap: Gap) -> str:
    return f"{100 * gap.heldout.value:.1f}; {100 * gap.value:+.1f} ± {100 * gap.stderr:.1f}"


def _difference(difference: Difference) -> str:
    interval = f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
    return f"{100 * difference.value:+.1f} ({interval}){' *' if difference.apart else ''}"
