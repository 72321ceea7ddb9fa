"""The model card of a mixture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safemerge.io import CardRecord, ScoreRow, SourceRecord
from safemerge.score import Scores
from search.config import SearchConfig
from search.fusion.record import Tuned
from search.results.summary import shown_judge


def fusion_card(
    tuned: Tuned, config: SearchConfig, rows: Mapping[str, Scores] | None = None
) -> CardRecord:
    """The model card: what the mixture is made of, its losses, and what was measured."""
    contents, last = tuned.settings["inputs"], tuned.losses[-1]
    terms = ", ".join(
        f"{name} {last[name]:.4f}" for name in ("loss", "lm", "gate", "regulariser") if name in last
    )
    judges = " and ".join(config.probes.heldout_judges or config.probes.judges)
    paths = {"base": config.models.base, **{s.name: s.path for s in config.models.sources}}
    measured = (
        f"Rates are of greedy replies to held-out probes, which {shown_judge(judges)} has read."
        if rows
        else "Nothing was measured on held-out probes."
    )
    return CardRecord(
        title=Path(tuned.folder).name,
        base=config.models.base,
        sources=tuple(SourceRecord(name, paths[name], contents[name]) for name in paths),
        method="h3fusion (a mixture of experts, Tekin et al. 2024, 2411.17792)",
        recipe_json=json.dumps(tuned.settings),
        rows=tuple(
            ScoreRow(name.replace("_", " "), scores) for name, scores in (rows or {}).items()
        ),
        notes=(
            "Each source's feed-forward block is one expert; router and experts were trained "
            f"together for {len(tuned.losses)} steps. Loss of the last one: {terms}.",
            measured,
        ),
    )
