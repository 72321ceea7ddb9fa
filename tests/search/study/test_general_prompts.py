"""Retention in a run: what is asked and kept, what breaks is said, and a run goes on as it was."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from safemerge.errors import RunError
from search.commands.search_and_measure import search_and_measure
from search.config import SearchConfig
from search.metrics import RETENTION
from search.results.damage import source_damage, trial_damage
from search.results.export import export
from search.study.study import run_search
from synth.zoo import Zoo


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def noisy(model: Path, folder: Path) -> Path:
    """A copy of a model whose weights are damaged."""
    shutil.copytree(model, folder)
    tensors = load_file(folder / "model.safetensors")
    torch.manual_seed(0)
    damaged = {
        name: tensor + 0.5 * torch.randn_like(tensor, dtype=torch.float32).to(tensor.dtype)
        for name, tensor in tensors.items()
    }
    save_file(damaged, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_every_model_is_measured_and_the_base_is_at_exactly_0(
    config: SearchConfig, tmp_path: Path
) -> None:
    found = search_and_measure(config, tmp_path / "run", baselines=["random"])
    run = found.run
    for name, scores in (("base", run.baseline.base), *run.baseline.sources.items()):
        assert set(RETENTION) <= scores.keys(), name
        assert scores["divergence"].n == 32
    assert run.baseline.base["divergence"].value == 0.0
    assert all(scores["divergence"].value > 0.0 for scores in run.baseline.sources.values())
    assert all(c.scores["divergence"].value > 0.0 for c in run.candidates)
    assert trial_damage(run, run.pick().number) is None
    for name, row in found.heldout.rows.items():
        assert set(RETENTION) <= row.keys(), name
        assert (row["divergence"].value == 0.0) is (name == "base")
    kept = [rows(run.dir.path / "general" / f"{name}.jsonl") for name in ("base", "source-2")]
    held = rows(run.dir.path / "heldout" / "general" / "uniform.jsonl")
    prompts = [{row["prompt"] for row in part} for part in (*kept, held)]
    assert prompts[0] == prompts[1]
    assert not prompts[0] & prompts[2]
    export(run, run.pick().number, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "nats ±" in card


def test_without_retention_nothing_is_asked_or_measured(
    record: dict[str, Any], tmp_path: Path
) -> None:
    record["probes"]["retention"] = "off"
    found = search_and_measure(SearchConfig.from_record(record), tmp_path / "run")
    assert not list(found.run.dir.path.glob("**/general"))
    every = [*found.heldout.rows.values(), *(c.scores for c in found.run.candidates)]
    assert not any(metric in scores for scores in every for metric in RETENTION)


def test_a_source_that_brings_damage_is_named_at_the_start(
    record: dict[str, Any], raw_zoo: Zoo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = noisy(raw_zoo.sources["safe"], tmp_path / "broken")
    record["models"]["sources"][1] = {"name": "reckless", "path": str(broken)}
    record["search"]["trials"] = 1
    with caplog.at_level(logging.WARNING):
        run = run_search(SearchConfig.from_record(record), tmp_path / "run")
    said = [text for text in caplog.messages if "brings damage" in text]
    assert len(said) == 1
    assert "the source 'reckless' brings damage: it is " in said[0]
    assert "nats a token away from the base on its replies (limit at_most = 1.0)" in said[0]
    assert run.baseline.sources["reckless"]["divergence"].value > 1.0
    assert source_damage(run.config, run.baseline) == said
    assert not run.candidates[0].feasible
    assert "trial 0 breaks what no probe asks: it is " in (trial_damage(run, 0) or "")


def test_a_run_goes_on_by_the_replies_that_it_has(config: SearchConfig, tmp_path: Path) -> None:
    run = run_search(config, tmp_path / "run")
    before = {file: file.read_bytes() for file in (tmp_path / "run" / "general").iterdir()}
    assert len(before) == 4
    study = config.search.model_copy(update={"trials": 6})
    more = run_search(config.model_copy(update={"search": study}), tmp_path / "run")
    assert {file: file.read_bytes() for file in (tmp_path / "run" / "general").iterdir()} == before
    assert more.baseline == run.baseline
    assert len(more.candidates) == 6
    assert all("divergence" in c.scores for c in more.candidates)


def test_several_workers_measure_what_one_does(record: dict[str, Any], tmp_path: Path) -> None:
    record["search"] |= {"sampler": "random", "workers": 2}
    run = run_search(SearchConfig.from_record(record), tmp_path / "run")
    assert len(run.candidates) == 4
    assert all(c.scores["divergence"].value > 0.0 for c in run.candidates)
    assert run.front_record() is not None


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        (40, "other content of the general prompts .*restore it, or start a new run"),
        (20, "was started with other general prompts .*restore them, or start a new run"),
    ],
)
def test_other_general_prompts_are_refused(
    kept: int, text: str, record: dict[str, Any], raw_zoo: Zoo, tmp_path: Path
) -> None:
    own = Path(shutil.copy(raw_zoo.general, tmp_path / "own.jsonl"))
    record["probes"]["retention"] = str(own)
    config = SearchConfig.from_record(record)
    run_search(config, tmp_path / "run")
    lines = own.read_text().splitlines(keepends=True)
    own.write_text("".join([*lines[:kept], lines[-1]]))  # 32 of the search half, 32 held out
    with pytest.raises(RunError, match=text):
        run_search(config, tmp_path / "run")
