"""A mixture from config to table: tuned, exported, and measured beside what it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from safemerge.io import write_card
from safemerge.writable import check_writable
from search.config import SearchConfig
from search.fusion.card import fusion_card
from search.fusion.checks import check_fusion
from search.fusion.heat_map import write_heat_map
from search.fusion.measured import FusionTable, measure_routing, mixture_engine, mixture_row
from search.fusion.record import Tuned
from search.fusion.tuned import check_fresh_mixture, tuned_mixture
from search.results.answers import base_and_sources
from search.results.heldout_asker import HeldOutAsker
from search.results.heldout_table import check_heldout, merged_row
from search.results.plain_merges import uniform
from search.runs.rundir import RunDir
from search.runs.workbench import Workbenches
from synth.progress import Report, silent

TABLE, HEAT_MAP = "heldout.json", "routing.html"


@dataclass(frozen=True, slots=True)
class FusedRun:
    """A finished mixture and its measurement."""

    tuned: Tuned
    table: FusionTable
    heat_map: Path | None  # None without plotly


def fuse(
    config: SearchConfig,
    home: Path,
    *,
    out: Path | None = None,
    report: Report = silent,
    foretell: Callable[[str], None] = lambda text: None,
) -> FusedRun:
    """Tune the mixture of a config and measure it, or go on with that.

    Args:
        home: its own folder.
        out: of the checkpoint; default `home/export`.
        foretell: told how much memory the tuning takes, before it does.

    Raises:
        BadInput: what is wrong with config, models, probes or folders.
        RunError: the folder is of other settings, or in use.
        TrainingFailed: the training broke down; its last good checkpoint is kept.
    """
    config = config.resolved(Path.cwd())
    check_fresh_mixture(home)
    check_writable(home)
    benches, run = Workbenches(), RunDir(home)
    probes = benches.probes(config)
    check_heldout(probes)
    check_fusion(config, probes)
    with run.locked():
        tuned = tuned_mixture(
            config, run, probes, out or home / "export", report=report, foretell=foretell
        )
        bench = benches.open(config, prepare=False)
        asker = HeldOutAsker(run, bench, config, report)
        mixture = mixture_row(config, tuned)
        plain = merged_row(
            bench, "uniform", "uniform.jsonl", partial(uniform, bench.space.template)
        )
        models, rows = [*base_and_sources(bench), plain, mixture], {}
        for done, row in enumerate(models):
            report("held-out", done, len(models), row.name)
            _, rows[row.name] = asker.ask(row)
        report("held-out", len(models), len(models), "")
        table = run.load(TABLE, FusionTable)
        if table is None or table.rows != rows:
            routing = measure_routing(config, mixture_engine(config, tuned), bench, report)
            table = FusionTable(rows=rows, routing=routing)
            run.write(TABLE, table)
            write_card(Path(tuned.folder), fusion_card(tuned, config, rows))
        heat_map = home / HEAT_MAP if find_spec("plotly") else None
        if heat_map is not None:
            write_heat_map(table.routing, heat_map)
    return FusedRun(tuned, table, heat_map)
