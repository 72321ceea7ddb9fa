"""The `safemerge` command. stdout is data, stderr is talk.

Exit codes: 0 done, 1 failed, 2 bad input or missing prerequisite, 130 stopped cleanly.
Heavy imports happen inside the verbs, so that --help answers at once.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from search.cli.demo import demo
from search.cli.doctor import doctor
from search.cli.options import Config, Json, Set
from search.cli.runs import export, front, report, status
from search.cli.standalone import eval_, judge_agreement, merge

app = typer.Typer(
    name="safemerge",
    help="Tune a merge of language models for one deployment domain without losing alignment. "
    "Start with `safemerge demo`; then `init`, `probes`, `search`, `report`, `export`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"safemerge {version('safemerge')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_version, help="Print the version."),
    ] = False,
) -> None:
    """Options of the command itself."""


app.command()(demo)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("safemerge.toml"),
    taxonomy: Annotated[
        bool,
        typer.Option(
            "--taxonomy", help="Write the built-in taxonomy instead: what probes are written about."
        ),
    ] = False,
) -> None:
    """Write a complete, commented configuration file."""
    from safemerge.errors import OutputError

    if path.exists():
        raise OutputError(f"{path} exists already; name another file, or remove it first")
    folder, name = (
        ("synth.seeds", "default.toml") if taxonomy else ("search.config", "template.toml")
    )
    try:
        path.write_text((files(folder) / name).read_text("utf-8"), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}") from error
    if taxonomy:
        told = f'edit it, then name it in your config: [probes.write] taxonomy = "{path}"'
    else:
        told = f"name your models in it, then: safemerge probes {path}"
    typer.echo(f"wrote {path}; {told}", err=True)


@app.command()
def probes(
    config: Config,
    set_: Set = None,
    stats: Annotated[bool, typer.Option(help="Count a finished file too.")] = False,
    show_text: Annotated[
        bool, typer.Option("--show-text", help="Print every question and answer, the harmful too.")
    ] = False,
    json_: Json = False,
) -> None:
    """Write the probes that [probes.write] describes: models ask, answer and are judged.

    A second call goes on where the first one was stopped; a finished file is left as it is. The
    table counts the questions, and those rejected by reason; they wait in PROBES.rejected.jsonl.
    No text is printed but with --show-text.
    """
    from search.cli.tables import emit_json, probe_stats, probe_texts, progress_bar, say
    from search.commands.write_probes import write_probes
    from search.config import SearchConfig
    from synth.grading import unchecked_notes
    from synth.probes.probe import AXES, ProbeSet
    from synth.probes.stats import read_stats
    from synth.writing.pipeline import UnwrittenAxis

    settings = SearchConfig.from_toml(config, set_ or ())
    wanted = settings.probes.write
    if wanted is not None and not Path(settings.probes.path).exists():
        asked = {axis: wanted.counts.of(axis) for axis in AXES}
        listed = ", ".join(f"{count:,} {axis}" for axis, count in asked.items() if count)
        say(f"the models are asked for {sum(asked.values()):,} probes: {listed}")
    try:
        with progress_bar() as report:
            result = write_probes(settings, report=report)
    except UnwrittenAxis:
        probe_stats(read_stats(Path(settings.probes.path)))
        raise
    if result is None:
        say(f"{settings.probes.path} exists and was left as it is; remove it to write it anew")
    else:
        for row in result.rows:
            if row.kept < row.wanted:
                say(f"{row.axis}: {row.kept} probes of {row.wanted} wanted; the table says why")
        say(f"wrote {settings.probes.path}; next: safemerge search {config}")
    written = Path(settings.probes.path)
    if show_text:
        probe_texts(ProbeSet.from_jsonl(written))
    if stats or result is not None:
        counts = read_stats(written)
        emit_json(counts) if json_ else probe_stats(counts)
        made = ProbeSet.from_jsonl(written).probes
        for note in unchecked_notes(made, graded=settings.probes.grader is not None):
            say(note)


@app.command()
def importance(
    config: Config,
    source: Annotated[str, typer.Argument(help="Name of the source, as in the config.")],
    probes: Annotated[
        Path, typer.Option(help="JSON Lines of questions and answers of that source's domain.")
    ],
    most: Annotated[int, typer.Option(min=1, help="Probes used, spread over the file.")] = 64,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Find the weights that matter to one source, for the method led.

    led keeps of every source what matters to its own domain and to no other's, so it needs this
    file of each of them, once. Two backward passes for every probe, in float32: one of the base and
    one of the source. The file is written where the config says: importance = "NAME.safetensors"
    in that source's [[models.sources]].
    """
    from search.cli.tables import emit_json, progress_bar
    from search.commands.write_importance import write_importance
    from search.config import SearchConfig

    settings = SearchConfig.from_toml(config, set_ or ())
    with progress_bar() as report:
        out, count = write_importance(settings, source, probes, most=most, report=report)
    if json_:
        emit_json({"out": str(out), "probes": count})
    else:
        typer.echo(str(out))


@app.command()
def search(
    config: Config,
    run: Annotated[
        Path | None, typer.Option(help="Run directory; default runs/NAME for NAME.toml.")
    ] = None,
    set_: Set = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="search.trials; more of them go on with a run.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="search.workers: processes, one for each GPU or sharing the CPU."),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="Also run this in RUN/baselines and measure it: evomm, grid or lm_cocktail "
            "(Hammoud et al. 2024, each with and without the safety term), random, or "
            "without_safety (the search itself). evomm and grid run over ties, dare_ties and "
            "slerp; evomm:ties runs over one. Repeatable.",
        ),
    ] = None,
) -> None:
    """Search the merge, or go on with a search; then measure the front on held-out probes."""
    from search.cli.heldout_tables import heldout_report
    from search.cli.tables import progress_bar, say
    from search.commands.search_and_measure import search_and_measure
    from search.config import SearchConfig
    from search.results.damage import trial_damage
    from search.results.diagnostics import shortfalls
    from search.results.standing import standing

    options = {"search.trials": trials, "search.workers": workers}
    overrides = [f"{key}={value}" for key, value in options.items() if value is not None]
    settings = SearchConfig.from_toml(config, [*(set_ or ()), *overrides])
    home = run or Path("runs") / config.stem
    with progress_bar() as report:
        measured = search_and_measure(
            settings,
            home,
            baselines=baseline or (),
            report=report,
            foretell=lambda found: say("\n".join(found.foretold(settings))),
        )
    pick, record = measured.run.pick(), measured.run.front_record()
    stopped = "" if record is None else record.stopped
    say(f"the search is over: {stopped}. With more --trials or looser [search.stop] it goes on.")
    heldout_report(measured.heldout)
    damage = trial_damage(measured.run, pick.number)
    for text in [*shortfalls(measured.run), *([damage] if damage else [])]:
        say(text)
    mark = standing(measured.run, pick.number).mark
    name, number = (f" ({mark})", f" {pick.number}") if mark else ("", "")
    say(
        f"pick: trial {pick.number}{name}. Next: safemerge front {home}; "
        f"safemerge export {home}{number}"
    )


app.command()(doctor)
app.command()(status)
app.command()(front)
app.command()(report)
app.command()(merge)
app.command("eval")(eval_)
app.command("judge-agreement")(judge_agreement)
app.command()(export)


def main() -> None:
    """Entry point; turns deliberate errors into one sentence and an exit code."""
    from safemerge.errors import SafemergeError
    from search.study.interrupts import interruptible

    # Python's looks for garbage go through all of torch: a tenth of a second while it is imported,
    # and a quarter at the last one, for nothing.
    gc.set_threshold(10_000)
    atexit.register(gc.freeze)
    try:
        with interruptible():  # also beyond typer, which ends on a Ctrl-C without a word
            app()
    except SafemergeError as error:
        typer.echo(f"safemerge: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("safemerge: stopped; the same command goes on from here", err=True)
        sys.exit(130)
    except BrokenPipeError:  # `safemerge front RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        reason = (str(error) or "no more to be had").splitlines()[0][:200]
        typer.echo(
            f"safemerge: out of memory ({reason}); what is finished is kept. Free some, name "
            "another engine.device, or take fewer --workers; the same command goes on from here",
            err=True,
        )
        sys.exit(1)
    except OSError as error:  # unreadable or unwritable places that nothing closer has explained
        typer.echo(f"safemerge: {error}", err=True)
        sys.exit(2)


def _out_of_memory(error: Exception) -> bool:
    """Python's own, and torch's on any device, which on a CPU is a plain RuntimeError."""
    text = str(error)
    return isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text


if __name__ == "__main__":
    main()
