"""The held-out measurement as the command line prints it: tables on stdout, sentences on stderr."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from search.cli.score_tables import RATES, rate_table
from search.cli.tables import print_table, say
from search.results.numbers import points

if TYPE_CHECKING:
    from search.results.heldout_record import HeldOut
    from search.scoring.generalization_gap import Gap
    from search.scoring.paired_differences import Difference

_T = TypeVar("_T")


def heldout_report(heldout: HeldOut) -> None:
    """All rows, the gap, and the sentences."""
    rows = {_marked(name, heldout): scores for name, scores in heldout.rows.items()}
    rate_table(rows, RATES.capitalize())
    gap_table(heldout)
    say_statements(heldout)


def gap_table(heldout: HeldOut) -> None:
    """The front's likelihoods on held-out probes, and their gap to those on search probes."""
    title = (
        "Likelihood of the wanted answers on held-out probes, 0 to 1; search minus held-out, ± one "
        "standard error; no rates of replies"
    )
    _table(heldout, title, heldout.gap, _gap)


def difference_table(heldout: HeldOut) -> None:
    """The front's held-out scores against those of the pick."""
    title = (
        "Rates of held-out replies minus the pick's in points, 95 % interval of each; * apart "
        "over the whole table"
    )
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
        name = _marked(f"trial {number}", heldout, "pick" if number == heldout.pick else "")
        cells.append([name, *(cell(row[axis]) for axis in axes)])
    print_table(title, ["front", *axes], cells)


def _marked(name: str, heldout: HeldOut, pick: str = "") -> str:
    """A row's name; that of a pick says where it is outside its limits."""
    marks = [pick, heldout.outside.get("search" if pick else name, "")]
    shown = ", ".join(mark for mark in marks if mark)
    return f"{name} ({shown})" if shown else name


def _gap(gap: Gap) -> str:
    return f"{gap.heldout.value:.3f}; {gap.value:+.3f} ± {gap.stderr:.3f}"


def _difference(difference: Difference) -> str:
    return points(difference) + (" *" if difference.apart else "")
