"""A mixture on the hardly trained small world: tuned, resumed, measured, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from safemerge.errors import BadInput, ConfigError, OutputError, ProbeError, RunError
from search.cli.app import app
from search.commands.fuse import FusedRun, fuse
from search.commands.search_and_measure import search_and_measure
from search.config import SearchConfig
from search.config.toml import set_key
from search.fusion.record import Tuned
from search.runs.probe_sets import load_probes
from synth.engines.loading import load_model
from synth.probes.probe import ProbeSet

EXPERTS = {"domain": "domain", "harmless": "safe", "honest": "honest"}


@pytest.fixture
def fused(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a config with a small mixture."""
    return {
        **record,
        "fusion": {"experts": EXPERTS, "steps": 4, "batch": 4, "save_steps": 2, "lr": 1e-3},
    }


def run(record: dict[str, Any], home: Path, *overrides: str, **options: Any) -> FusedRun:
    record = json.loads(json.dumps(record))
    for override in overrides:
        set_key(record, override)
    return fuse(SearchConfig.from_record(record), home, **options)


def test_a_mixture_is_tuned_measured_and_written(fused: dict[str, Any], tmp_path: Path) -> None:
    told: list[str] = []
    home = tmp_path / "run"
    found = run(fused, home, foretell=told.append)
    assert list(found.table.rows) == ["base", "domain", "safe", "honest", "uniform", "h3fusion"]
    counts = {row["domain"].n for row in found.table.rows.values()}
    assert len(counts) == 1
    assert {"over_refusal", "divergence"} <= found.table.rows["h3fusion"].keys()
    assert "memory  about" in told[0]
    routing = found.table.routing
    assert routing.experts == ["domain", "safe", "honest"]
    for layers in routing.shares.values():
        assert len(layers) == 4
        assert all(sum(shares) == pytest.approx(1.0, abs=1e-5) for shares in layers)
    assert list(routing.switched_off) == ["", "domain", "safe", "honest"]
    assert routing.gating_accuracy is not None
    model = load_model(home / "export", "cpu", None)
    assert model.config.model_type == "mixtral"
    assert (model.config.num_local_experts, model.config.num_experts_per_tok) == (3, 2)
    assert (home / "export" / "tokenizer.json").exists()
    card = (home / "export" / "README.md").read_text()
    assert "Measured: rates of replies" in card
    assert "trained together for 4 steps" in card
    assert found.tuned.settings["inputs"]["safe"] in card
    assert not (home / "checkpoints").exists()
    assert found.heat_map is not None
    assert "expert %{x}" in found.heat_map.read_text()


def test_what_is_done_is_not_done_again(fused: dict[str, Any], tmp_path: Path) -> None:
    home = tmp_path / "run"
    first = run(fused, home)
    before = {path: path.stat().st_mtime_ns for path in (home / "heldout").glob("*.jsonl")}
    weights = (home / "export" / "model.safetensors").stat().st_mtime_ns
    again = run(fused, home, "fusion.save_steps=1", "fusion.recompute=true")
    assert again == first
    assert before == {path: path.stat().st_mtime_ns for path in (home / "heldout").glob("*.jsonl")}
    assert (home / "export" / "model.safetensors").stat().st_mtime_ns == weights
    with pytest.raises(RunError, match=r"started with fusion\.gating = 0\.1, and now it is 0\.5"):
        run(fused, home, "fusion.gating=0.5")
    with pytest.raises(RunError, match=r"is finished and lies in .*run/export"):
        run(fused, home, out=tmp_path / "other")


def test_a_stopped_run_goes_on(fused: dict[str, Any], tmp_path: Path) -> None:
    whole = run(fused, tmp_path / "whole")
    steps: list[int] = []

    def stop(stage: str, done: int, total: int, note: str) -> None:
        if stage == "fusion tuning" and note.startswith("loss"):
            steps.append(done)
            if steps == [1, 2, 3]:
                raise KeyboardInterrupt

    home = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(fused, home, report=stop)
    assert not (home / "export").exists()
    found = run(fused, home, report=stop)
    assert steps == [1, 2, 3, 3, 4]
    assert found.tuned.losses[-1]["loss"] == pytest.approx(whole.tuned.losses[-1]["loss"], abs=1e-4)
    assert found.table.rows == whole.table.rows


def test_held_out_probes_teach_nothing(fused: dict[str, Any], tmp_path: Path) -> None:
    """The same search probes beside other held-out ones: the same training, to the bit."""
    probes = load_probes(SearchConfig.from_record(fused))
    held = probes.split("heldout").probes
    losses = []
    for name, kept in (("all", held), ("half", held[::2])):
        record = json.loads(json.dumps(fused))
        learned = (*probes.split("search", "validation").probes,)
        ProbeSet(learned).to_jsonl(tmp_path / "learned.jsonl")
        ProbeSet(tuple(kept)).to_jsonl(tmp_path / f"{name}.jsonl")
        record["probes"] |= {
            "path": str(tmp_path / "learned.jsonl"),
            "heldout": str(tmp_path / f"{name}.jsonl"),
        }
        losses.append(run(record, tmp_path / f"run {name}").tuned.losses)
    assert [row["loss"] for row in losses[0]] == [row["loss"] for row in losses[1]]


def test_a_source_can_be_tuned_first(fused: dict[str, Any], tmp_path: Path) -> None:
    """Its feed-forward blocks alone; what it learned is in its expert before fusion tuning."""
    data = tmp_path / "safe.jsonl"
    rows = [{"prompt": "how can i help ?", "answer": "i cannot help with that ."}] * 3
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fused["fusion"]["alignment"] = {"safe": str(data)}
    found = run(fused, tmp_path / "run")
    tuned = load_model(tmp_path / "run" / "experts" / "0", "cpu", None).state_dict()
    start = load_model(fused["models"]["sources"][1]["path"], "cpu", None).state_dict()
    for name, tensor in tuned.items():
        assert torch.equal(tensor, start[name]) == (".mlp." not in name), name
    assert list(found.tuned.settings["alignment"]) == ["safe"]
    fused["fusion"]["alignment"] = {"safe": str(tmp_path / "none.jsonl")}
    with pytest.raises(ConfigError, match=r"fusion\.alignment: .*none\.jsonl cannot be read"):
        run(fused, tmp_path / "other")


def test_a_mixture_is_a_baseline_of_a_search(fused: dict[str, Any], tmp_path: Path) -> None:
    """On the attention of the search's pick."""
    fused["fusion"]["anchor"] = "search"
    config = SearchConfig.from_record(fused)
    measured = search_and_measure(config, tmp_path / "run", baselines=["h3fusion"])
    rows = list(measured.heldout.rows)
    assert rows[-2:] == ["h3fusion", "search"]
    assert measured.heldout.rows["h3fusion"].keys() == measured.heldout.rows["base"].keys()
    home = tmp_path / "run" / "baselines" / "h3fusion"
    tuned = Tuned.model_validate_json((home / "fusion.json").read_text())
    pick = measured.run.pick().recipe
    assert tuned.settings["anchor"] == pick.model_dump(mode="json")
    with pytest.raises(ConfigError, match=r"fusion\.anchor is 'search', which is the pick of the"):
        run(fused, tmp_path / "alone")


@pytest.mark.parametrize(
    ("overrides", "error", "text"),
    [
        (["fusion.top_k=4"], ConfigError, r"fusion\.top_k is 4 of 3 experts; the range is 1 to 3"),
        (
            ["fusion.experts={domain='domain', harmless='safe'}"],
            ConfigError,
            "names no axis for the source 'honest'",
        ),
        (["fusion.batch=1000000000"], BadInput, r"of memory and .* are free; set fusion\.batch = "),
        (["probes.heldout_frac=0.0"], ProbeError, "there are no held-out probes"),
    ],
)
def test_refusals(
    fused: dict[str, Any],
    tmp_path: Path,
    overrides: list[str],
    error: type[Exception],
    text: str,
) -> None:
    with pytest.raises(error, match=text):
        run(fused, tmp_path / "run", *overrides)
    assert not (tmp_path / "run" / "settings.json").exists()


def test_an_axis_without_probes_is_refused(
    fused: dict[str, Any], probe_file: Path, tmp_path: Path
) -> None:
    some = [probe for probe in ProbeSet.from_jsonl(probe_file) if probe.axis != "honest"]
    ProbeSet(tuple(some)).to_jsonl(tmp_path / "some.jsonl")
    fused["probes"]["path"] = str(tmp_path / "some.jsonl")
    with pytest.raises(ProbeError, match="no search probes of honest, for which the expert 'hone"):
        run(fused, tmp_path / "run")


def test_one_source_and_no_section_are_refused(record: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no \[fusion\] section; `safemerge init` shows one"):
        run(record, tmp_path / "run")
    record["models"]["sources"] = record["models"]["sources"][:1]
    with pytest.raises(ConfigError, match="at least two sources, and there is 1"):
        run({**record, "fusion": {"experts": {"domain": "domain"}}}, tmp_path / "run")


def test_an_export_folder_that_is_not_empty_is_refused(
    fused: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    with pytest.raises(OutputError, match="out is not empty; choose another folder"):
        run(fused, tmp_path / "run", out=tmp_path / "out")


def test_a_folder_of_other_things_is_refused(fused: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("kept")
    with pytest.raises(OutputError, match=r"holds no mixture \(but 'mine\.txt'\); choose another"):
        run(fused, tmp_path / "run")


def test_the_command_prints_tables(fused: dict[str, Any], tmp_path: Path) -> None:
    import tomli_w

    config = tmp_path / "c.toml"
    record = SearchConfig.from_record(fused).record()
    config.write_text(tomli_w.dumps(record))
    home = ["--run", str(tmp_path / "run")]
    shown = CliRunner().invoke(app, ["fuse", str(config), *home])
    assert shown.exit_code == 0, shown.output
    for text in ("h3fusion", "Share of held-out answer tokens", "without safe"):
        assert text in shown.stdout
    told = CliRunner().invoke(app, ["fuse", str(config), *home, "--json"])
    record = json.loads(told.stdout)
    assert record["rows"]["h3fusion"]["domain"]["n"] > 0
    assert Path(record["export"], "config.json").exists()
