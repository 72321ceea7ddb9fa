"""A search, its baselines and the held-out table: what they share, and what each has of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.commands.search_and_measure import search_and_measure
from search.config import SearchConfig
from search.runs import workbench
from search.runs.workbench import Workbenches


def test_models_probes_and_judge_are_opened_once(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(record["probes"]["path"]).parent)
    record["probes"]["path"] = "probes.jsonl"
    config = SearchConfig.from_record(record)
    opened: list[str] = []
    for name in ("TransformersEngine", "open_inputs", "load_probes", "probe_judge"):
        real = getattr(workbench, name)

        def counted(*args: Any, name: str = name, real: Any = real, **rest: Any) -> Any:
            opened.append(name)
            return real(*args, **rest)

        monkeypatch.setattr(workbench, name, counted)
    found = search_and_measure(config, tmp_path / "run", baselines=["random", "lm_cocktail"])
    assert {"random_search", "lm_cocktail", "search"} <= found.heldout.rows.keys()
    assert sorted(opened) == ["TransformersEngine", "load_probes", "open_inputs", "probe_judge"]


def test_a_baseline_of_two_models_has_inputs_of_its_own_and_the_same_live_model(
    config: SearchConfig,
) -> None:
    benches = Workbenches()
    whole = benches.open(config)
    models = config.models.model_copy(update={"sources": config.models.sources[:2]})
    pair = benches.open(config.model_copy(update={"models": models}))
    assert pair.engine is whole.engine
    assert [ref.name for ref in pair.inputs.refs] == ["base", "domain", "safe"]
    again = benches.open(config)
    assert again.inputs is whole.inputs
    assert again.baseline() == whole.baseline()


def test_a_closed_opener_opens_everything_anew(config: SearchConfig) -> None:
    benches = Workbenches()
    before = benches.open(config)
    benches.close()
    after = benches.open(config)
    assert after.engine is not before.engine
    assert len(after.merges) == 1
