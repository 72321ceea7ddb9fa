"""The verb doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.options import Config, Json, Set

if TYPE_CHECKING:
    from search.doctor.diagnosis import Diagnosis


def doctor(
    config: Config,
    run: Annotated[
        Path | None, typer.Option(help="Where the run would be; default runs/NAME for NAME.toml.")
    ] = None,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Check all that a search needs, and say what it will take: time, memory, disk.

    A few passes of the base are timed here, for some seconds. Nothing is written but factors in the
    cache. Exit code 2 where something is missing or does not fit, with a sentence for each.
    """
    from search.cli.tables import emit_json, progress_bar, say
    from search.config import SearchConfig
    from search.doctor.diagnosis import diagnose

    settings = SearchConfig.from_toml(config, set_ or ())
    with progress_bar() as report:
        found = diagnose(settings, run or Path("runs") / config.stem, report=report)
    if json_:
        emit_json(found.record())
    else:
        _tables(found)
    for remark in found.remarks:
        say(remark)
    for problem in found.problems:
        say(f"safemerge: {problem}")
    if found.problems:
        raise typer.Exit(2)
    say(f"all is well; next: safemerge search {config}")


def _tables(found: Diagnosis) -> None:
    from search.cli.tables import print_table
    from search.doctor.estimate import gigabytes
    from synth.progress import duration

    rows = [[f.what, "ok" if f.well else "WRONG", f.told] for f in found.findings]
    print_table("What is there", ["", "", "found"], rows, names=2)
    counts = found.counts.by_axis
    if counts:
        splits = list(next(iter(counts.values())))
        told = [[axis, *(row[split] for split in splits)] for axis, row in counts.items()]
        print_table("Probes", ["axis", *splits], told)
    estimate = found.estimate
    if estimate is None:
        return
    times, memory, disk, free = estimate.times, estimate.memory, estimate.disk, estimate.machine
    stages = {
        "start: models, merge, base and sources": times.prepare,
        f"warm start, {estimate.work.steps} steps of {duration(times.step)}": times.warm_start,
        f"{estimate.work.trials} trials of {duration(times.trial)}": times.trials,
        f"answers of {estimate.work.answered} trials before the pick": times.answers,
        "held-out table": times.heldout,
        "all": times.total,
    }
    print_table("Time", ["stage", "about"], [[k, duration(s)] for k, s in stages.items()])
    terms = [[name, gigabytes(size)] for name, size in memory.held.items()]
    largest = max(memory.stages, key=lambda name: memory.stages[name])
    terms.append([f"the largest stage, {largest}", gigabytes(memory.stages[largest])])
    for name, peak, left in (
        ("host", memory.host, free.host),
        ("device", memory.device, free.device),
    ):
        if peak is not None:
            spare = "" if left is None else f", {gigabytes(left)} free"
            terms.append([f"peak of the {name}", f"{gigabytes(peak)}{spare}"])
    print_table("Memory", ["of", "about"], terms)
    kept = {
        "run": (disk.run, free.run_disk),
        "cache of factors": (disk.cache, free.cache_disk),
        "export of the pick": (disk.export, free.run_disk),
    }
    told_disk = [[name, gigabytes(a), gigabytes(b)] for name, (a, b) in kept.items()]
    print_table("Disk", ["of", "about", "free"], told_disk)
