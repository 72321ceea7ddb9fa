"""The held-out measurement as the command line prints it: tables on stdout, sentences on stderr."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from search.cli.tables import print_table, say, score_table

if TYPE_CHECKING:
    from search.results.heldout_record import HeldOut
    from search.scoring.bootstrap import Difference
    from search.scoring.generalization_gap import Gap

_T = TypeVar("_T")


def heldout_report(heldout: HeldOut) -> None:
    """All rows, the gap, and the sentences."""
    score_table(heldout.rows, "Held-out scores in percent, ± one standard error")
    gap_table(heldout)
    say_statements(heldout)


def gap_table(heldout: HeldOut) -> None:
    """The front's likelihoods on held-out probes, and their gap to those on search probes."""
    title = (
        "Likelihood of the wanted answers on held-out probes in percent; search minus held-out in "
        "points, ± one standard error"
    )
    _table(heldout, title, heldout.gap, _gap)


def difference_table(heldout: HeldOut) -> None:
    """The front's held-out scores against those of the pick."""
    title = "Held-out scores minus the pick's in points, 95 % interval (paired bootstrap), * apart"
    _table(heldout, title, heldout.against_pick, _difference)


def say_statements(heldout: HeldOut) -> None:
    for sentence in heldout.statements:
        say(sentence)


def _table(
    heldout: HeldOut, title: str, rows: Mapping[int, Mapping[str, _T]], cell: Callable[[_T], str]
) -> None:
    """Cells by trial and axis; nothing where there are no rows."""
    if not rows:
        return
    axes = list(next(iter(rows.values())))
    cells = []
    for number, row in rows.items():
        mark = " (pick)" if number == heldout.pick else ""
        cells.append([f"trial {number}{mark}", *(cell(row[axis]) for axis in axes)])
    print_table(title, ["front", *axes], cells)


def _gap(gap: Gap) -> str:
    return f"{100 * gap.heldout.value:.1f}; {100 * gap.value:+.1f} ± {100 * gap.stderr:.1f}"


def _difference(difference: Difference) -> str:
    interval = f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
    return f"{100 * difference.value:+.1f} ({interval}){' *' if difference.apart else ''}"
