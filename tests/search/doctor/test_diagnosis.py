"""What `diagnose` finds wrong: a sentence for each fault, several at once, and nothing written."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from safemerge.errors import BadInput
from search.config import SearchConfig
from search.doctor.diagnosis import Diagnosis, diagnose
from search.doctor.estimate import Estimate, check_fits, estimate_search
from search.doctor.machine import Machine, this_machine, used_by_process
from synth.zoo import Zoo

ROOMY = Machine(host=10**13, device=None, run_disk=10**13, cache_disk=10**13)


def of(record: dict[str, Any], tmp_path: Path, machine: Machine | None = None) -> Diagnosis:
    found = diagnose(SearchConfig.from_record(record), tmp_path / "run", machine=machine)
    assert not (tmp_path / "run").exists()
    return found


def told(found: Diagnosis, what: str) -> str:
    (finding,) = [f for f in found.findings if f.what == what]
    assert not finding.well
    assert finding.told in "".join(found.problems)
    return finding.told


def test_all_is_well_and_the_estimate_is_of_this_config(
    record: dict[str, Any], tmp_path: Path
) -> None:
    found = of(record, tmp_path)
    assert found.problems == []
    assert {f.what for f in found.findings} >= {"base", "source safe", "tokenizer and template"}
    assert sum(sum(row.values()) for row in found.counts.by_axis.values()) == 32
    estimate = found.estimate
    assert estimate is not None
    assert estimate.times.total >= estimate.times.trials >= 4 * estimate.times.trial > 0.0
    assert estimate.memory.host > used_by_process() / 4
    assert estimate.disk.run > 0
    json.dumps(found.counts.by_axis)
    assert found.record()["total_seconds"] == estimate.times.total


def test_a_missing_probe_file_and_a_missing_source_are_told_together(
    record: dict[str, Any], tmp_path: Path
) -> None:
    record["probes"]["path"] = str(tmp_path / "nowhere.jsonl")
    record["models"]["sources"][1]["path"] = str(tmp_path / "gone")
    found = of(record, tmp_path)
    assert "nowhere.jsonl" in told(found, "probes")
    assert "gone does not exist" in told(found, f"source {record['models']['sources'][1]['name']}")
    assert found.estimate is None
    assert len(found.problems) == 2


def test_a_source_of_another_family_and_a_lora_of_another_base_are_told(
    record: dict[str, Any], raw_zoo: Zoo, goldens: Path, tmp_path: Path
) -> None:
    lora = tmp_path / "lora"
    lora.mkdir()
    elsewhere = str(raw_zoo.sources["domain"])
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    settings["base_model_name_or_path"] = elsewhere
    (lora / "adapter_config.json").write_text(json.dumps(settings))
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    pair = {key.format("A"): torch.zeros(2, 32), key.format("B"): torch.zeros(32, 2)}
    save_file(pair, lora / "adapter_model.safetensors")
    record["models"]["sources"] = [
        {"name": "family", "path": str(goldens / "models" / "a")},
        {"name": "adapter", "path": str(lora)},
    ]
    found = of(record, tmp_path)
    assert str(goldens / "models" / "a") in told(found, "source family")
    assert f"was trained on {elsewhere}" in told(found, "source adapter")


def test_a_judge_and_a_grader_that_cannot_be_fetched_are_told_by_name(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    record["probes"]["judge"] = "qwen3guard:strict=/nowhere/Qwen3Guard"
    record["probes"]["grader"] = "/nowhere/grader"
    found = of(record, tmp_path)
    assert "/nowhere/Qwen3Guard" in told(found, "judge")
    assert "qwen3guard" in told(found, "judge")
    assert "/nowhere/grader" in told(found, "grader")


def test_too_little_memory_and_disk_are_told_with_the_settings_that_help(
    record: dict[str, Any], tmp_path: Path
) -> None:
    found = of(record, tmp_path, replace(ROOMY, host=10**6, run_disk=10))
    memory, disk = found.problems
    assert memory.startswith("the search takes")
    assert "1.0 MB free" in memory
    assert " try " in memory
    assert "fewer search.trials" in disk
    assert found.estimate is not None
    with pytest.raises(BadInput, match=r"of memory .*; also, the run takes"):
        check_fits(found.estimate, SearchConfig.from_record(record))


def test_a_search_is_refused_only_where_it_surely_does_not_fit(
    config: SearchConfig, tmp_path: Path
) -> None:
    estimate = estimate_search(config, tmp_path, machine=ROOMY)

    def with_host(share: float) -> Estimate:
        free = round(share * estimate.memory.host)
        return replace(estimate, machine=replace(ROOMY, host=free))

    assert with_host(1.01).shortages(config) == []
    assert len(with_host(0.9).shortages(config)) == 1
    check_fits(with_host(0.9), config)
    with pytest.raises(BadInput, match="of memory"):
        check_fits(with_host(0.5), config)


def test_a_cache_or_an_export_that_does_not_fit_stops_nothing(
    config: SearchConfig, tmp_path: Path
) -> None:
    estimate = estimate_search(config, tmp_path, machine=ROOMY)
    tight = replace(ROOMY, run_disk=estimate.disk.run, cache_disk=0)
    found = replace(estimate, machine=tight)
    assert found.shortages(config) == []
    cache, export = found.remarks()
    assert "SAFEMERGE_CACHE" in cache
    assert "an export takes" in export


def test_this_machine_is_read_for_a_run_that_does_not_exist(tmp_path: Path) -> None:
    machine = this_machine("cpu", tmp_path / "a" / "b", tmp_path)
    assert machine.device is None
    assert machine.run_disk == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)
    assert machine.host is None or machine.host > 0
