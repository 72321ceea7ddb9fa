"""What the command line prints: tables on stdout, progress on stderr. Model text is escaped."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from synth.progress import printable, shown_progress

if TYPE_CHECKING:
    from safemerge.merging import MergePlan
    from synth.judges.agreement import Agreement
    from synth.probes.probe import ProbeSet
    from synth.probes.stats import AxisStats
    from synth.progress import Report

stderr = Console(stderr=True)
_WIDTH = 80
_LONGEST_NAME = 44  # a longer one has several lines
_GAP = 2  # between columns


def progress_bar() -> AbstractContextManager[Report]:
    """Progress on the stderr that `say` writes to."""
    return shown_progress(stderr)


def say(text: str) -> None:
    """One line of talk, on stderr."""
    stderr.print(_plain(text), highlight=False, soft_wrap=True)


def emit_json(record: object) -> None:
    """Data, such as dataclasses and scores, as JSON on stdout."""
    json.dump(to_jsonable_python(record), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")


def _plain(text: str) -> str:
    """As rich shows it unchanged: no markup, no control characters."""
    return escape(printable(text))


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    names: int = 1,
    bold: str | None = None,
) -> None:
    """A table on stdout, of which the first columns hold names and the others numbers.

    Columns that do not fit side by side come in several tables, each with the names.

    Args:
        names: how many columns hold names.
        bold: name of the row that is set off.
    """
    table = [[printable(str(cell)) for cell in row] for row in rows]
    # A pipe has no width: it gets that of most terminals.
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(_plain(title), highlight=False)
    for block in _side_by_side(columns, table, names, console.width):
        shown = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for index in block:
            is_name = index < names
            shown.add_column(
                escape(columns[index]),
                justify="left" if is_name else "right",
                max_width=_LONGEST_NAME if is_name else None,
                overflow="fold",
            )
        for row in table:
            cells = (escape(row[index]) for index in block)
            shown.add_row(*cells, style="bold" if row[0] == bold else "")
        console.print(shown)
        console.print()


def _side_by_side(
    columns: Sequence[str], table: Sequence[Sequence[str]], names: int, width: int
) -> list[list[int]]:
    """The columns of each table that fits: those of names, and as many others as there is room."""

    def needs(index: int) -> int:
        lines = [line for row in (columns, *table) for line in row[index].split("\n")]
        widest = max(map(cell_len, lines))
        return _GAP + (min(widest, _LONGEST_NAME) if index < names else widest)

    first = [*range(names)]
    left = room = width - sum(map(needs, first))
    blocks: list[list[int]] = [[]]
    for index in range(names, len(columns)):
        left -= needs(index)
        if left < 0 and blocks[-1]:
            blocks.append([])
            left = room - needs(index)
        blocks[-1].append(index)
    return [[*first, *block] for block in blocks]


def probe_texts(probes: ProbeSet) -> None:
    """Every question and its answer on stdout, a line each, and the hash of the set."""
    for probe in probes:
        origin = f"{probe.axis}, {probe.category}, {probe.form}, {probe.id}"
        for text in (origin, f"  asks:    {probe.prompt}", f"  answers: {probe.answer}"):
            print(printable(text).replace("\n", "\\n"))
    print(f"{len(probes)} probes, content hash {probes.content_hash}")


def probe_stats(axes: Sequence[AxisStats]) -> None:
    """What became of every question, as a table on stdout: a column an axis, a row a reason."""
    reasons = dict.fromkeys(reason for axis in axes for reason in axis.rejected)
    sizes = [axis.categories.values() for axis in axes]
    rows = [
        ["written", *(axis.written for axis in axes)],
        ["kept", *(axis.kept for axis in axes)],
        ["  read by no reviewer", *(axis.unreviewed for axis in axes)],
        ["  in the largest category", *(max(size, default=0) for size in sizes)],
        ["  in the smallest category", *(min(size, default=0) for size in sizes)],
        *([f"rejected: {r}", *(axis.rejected.get(r, 0) for axis in axes)] for r in reasons),
    ]
    title = "Questions written, kept, and rejected by reason"
    print_table(title, ["", *(axis.axis for axis in axes)], rows)


def agreement_tables(with_people: Sequence[Agreement], between: Sequence[Agreement]) -> None:
    """Judges beside human labels and beside each other, as tables on stdout."""
    summary = [
        [
            pair.rater,
            pair.judge,
            f"{100 * pair.agreement:.1f} %",
            "-" if pair.kappa is None else f"{pair.kappa:.2f} ± {pair.kappa_stderr:.2f}",
            pair.false_refusals,
            pair.missed_refusals,
        ]
        for pair in (*with_people, *between)
    ]
    columns = ["rater", "judge", "agreement", "kappa", "false refusals", "missed refusals"]
    title = f"Agreement on {with_people[0].n} labelled answers"
    print_table(title, columns, summary, names=2)
    for pair in with_people:
        rows = [[label, *row.values()] for label, row in pair.confusion.items()]
        title = f"Label (rows) and verdict of {pair.judge}"
        print_table(title, ["label", *pair.confusion], rows)


def merge_plan(planned: MergePlan) -> None:
    """What a merge would read, write and hold, on stdout."""
    mib = 2**20
    print(f"writes  {planned.tensors} tensors, {planned.written_bytes / mib:,.0f} MiB")
    print(f"reads   {planned.read_bytes / mib:,.0f} MiB")
    print(f"memory  at most {planned.peak_bytes / mib:,.0f} MiB, for {planned.largest}")
    print(f"disk    {planned.free_bytes / mib:,.0f} MiB free")


def print_csv(rows: Sequence[Mapping[str, object]]) -> None:
    """Front records as CSV on stdout: one column for each measured value."""
    flat = [_flat(to_jsonable_python(row)) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)


def _flat(row: Mapping[str, Any]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in row.items():
        if not isinstance(value, dict):
            if value is not None:
                flat[key] = value
            continue
        for metric, cell in value.items():
            flat[f"{key}.{metric}"] = cell["value"]
            for uncertain in ("stderr", "low", "high"):
                if uncertain in cell:
                    flat[f"{key}.{metric}.{uncertain}"] = cell[uncertain]
    return flat
