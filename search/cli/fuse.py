"""The verb fuse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.cli.options import Config, Json, Set

if TYPE_CHECKING:
    from search.fusion.measured import Routing


def fuse(
    config: Config,
    run: Annotated[
        Path | None, typer.Option(help="Where it is kept; default runs/NAME-fusion for NAME.toml.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to create; default RUN/export.")
    ] = None,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Train the sources as experts of one mixture, or go on with that; then measure it.

    The mixture that [fusion] describes learns from the search probes, and is measured on held-out
    ones by the same judges as a merge. It is written in an ordinary architecture of transformers.
    """
    from search.cli.score_tables import RATES, rate_table
    from search.cli.tables import emit_json, progress_bar, say
    from search.commands.fuse import fuse as run_fuse
    from search.config import SearchConfig

    settings = SearchConfig.from_toml(config, set_ or ())
    home = run or Path("runs") / f"{config.stem}-fusion"
    with progress_bar() as report:
        fused = run_fuse(settings, home, out=out, report=report, foretell=say)
    if json_:
        emit_json({"export": fused.tuned.folder, **fused.table.model_dump(mode="json")})
        return
    rate_table(fused.table.rows, RATES.capitalize())
    routing_tables(fused.table.routing)
    if fused.heat_map is None:
        say('a heat map of the routing needs: pip install "safemerge[report]"')
    else:
        say(f"heat map of the routing: {fused.heat_map}")
    say(f"mixture: {fused.tuned.folder}")


def routing_tables(routing: Routing) -> None:
    """Where tokens go, by axis and layer, and what is left without each expert."""
    from search.cli.score_tables import likelihood_table
    from search.cli.tables import print_table, say

    rows = [
        [axis, layer, *(f"{100 * share:.0f} %" for share in shares)]
        for axis, layers in routing.shares.items()
        for layer, shares in enumerate(layers)
    ]
    title = "Share of held-out answer tokens that each expert gets"
    print_table(title, ["axis", "layer", *routing.experts], rows, names=2)
    off = {f"without {name}" if name else "all": row for name, row in routing.switched_off.items()}
    likelihood_table(
        off, "Likelihood of the wanted answers, 0 to 1, with one expert switched off; no rates"
    )
    if routing.gating_accuracy is not None:
        say(
            f"the router sends {100 * routing.gating_accuracy:.1f} % of the held-out probes to "
            "their axis's own expert"
        )
