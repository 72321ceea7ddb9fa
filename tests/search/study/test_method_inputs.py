"""What methods need beside weights reaches a search, or is refused before it begins."""

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from typer.testing import CliRunner

from safemerge.errors import ConfigError, ProbeError, RecipeError
from search.cli.app import app
from search.commands.write_importance import write_importance as write_importance_of
from search.config import SearchConfig
from search.runs.probe_sets import load_probes
from search.runs.workbench import open_workbench, recipe_template
from search.study.study import run_search
from synth.engines.transformers import TransformersEngine
from synth.importance import write_importance
from synth.probes.probe import ProbeSet


def base_engine(config: SearchConfig) -> TransformersEngine:
    return TransformersEngine(config.models.base, dtype=torch.float32)


def test_a_search_masks_by_importance_files(record: dict[str, Any], tmp_path: Path) -> None:
    """Their paths in a config are relative to it, as all paths are."""
    record["merge"]["method"] = "led"
    record["search"]["trials"] = 1
    for source in record["models"]["sources"]:
        source["importance"] = f"{source['name']}.safetensors"
    config = SearchConfig.from_record(record, folder=tmp_path)
    for source in config.models.sources:
        assert source.importance == str(tmp_path / f"{source.name}.safetensors")
        pairs = [("Is it so?", "Yes.")]
        write_importance(
            base_engine(config), recipe_template(config), source.name, pairs, source.importance
        )
    run_search(config, tmp_path / "run")
    assert (tmp_path / "run/trials/00000/scores.json").exists()


def test_the_command_writes_what_a_search_by_led_needs(
    record: dict[str, Any], probe_file: Path, tmp_path: Path
) -> None:
    probes = ProbeSet.from_jsonl(probe_file).probes
    split = [
        one.model_copy(update={"split": ("search", "heldout")[i % 2]})
        for i, one in enumerate(probes)
    ]
    ProbeSet(tuple(split)).to_jsonl(tmp_path / "mine.jsonl")
    first = record["models"]["sources"][0]
    first["importance"] = str(tmp_path / "made" / "first.safetensors")
    config = SearchConfig.from_record(record)
    (tmp_path / "config.toml").write_text(tomli_w.dumps(record))
    asked = [first["name"], "--probes", str(tmp_path / "mine.jsonl"), "--most", "3", "--json"]
    done = CliRunner().invoke(app, ["importance", str(tmp_path / "config.toml"), *asked])
    assert json.loads(done.stdout) == {"out": first["importance"], "probes": 3}
    held = {one.prompt for one in load_probes(config).split("heldout")}
    usable = [one for one in split if one.split == "search" and one.prompt not in held]
    chosen = [usable[i * len(usable) // 3] for i in range(3)]
    pairs = [(one.prompt, one.answer) for one in chosen]
    expected = tmp_path / "expected.safetensors"
    write_importance(base_engine(config), recipe_template(config), first["name"], pairs, expected)
    assert Path(first["importance"]).read_bytes() == expected.read_bytes()


def test_importance_is_never_taken_from_what_the_config_holds_out(
    record: dict[str, Any], probe_file: Path, tmp_path: Path
) -> None:
    """The file of probes itself says nothing of splits: the config's seed and share decide."""
    name = record["models"]["sources"][0]["name"]
    record["models"]["sources"][0]["importance"] = str(tmp_path / "x")
    config = SearchConfig.from_record(record)
    held = load_probes(config).split("heldout").probes
    every = ProbeSet.from_jsonl(probe_file)
    assert {probe.split for probe in every} == {"search"}
    _, used = write_importance_of(config, name, probe_file, most=len(every))
    assert used == len(every) - len(held) < len(every)
    alone = tmp_path / "alone.jsonl"
    ProbeSet(tuple(p.model_copy(update={"split": "search"}) for p in held)).to_jsonl(alone)
    with pytest.raises(ProbeError, match=r"alone.jsonl are held out"):
        write_importance_of(config, name, alone)
    # A file of held-out probes counts before the others are written, too.
    record["probes"] |= {"heldout": str(alone), "path": str(tmp_path / "not_yet.jsonl")}
    with pytest.raises(ProbeError, match=r"alone.jsonl are held out"):
        write_importance_of(SearchConfig.from_record(record), name, alone)


def test_importance_is_refused_without_a_file_a_source_or_a_probe(
    record: dict[str, Any], probe_file: Path, tmp_path: Path
) -> None:
    name = record["models"]["sources"][0]["name"]
    config = SearchConfig.from_record(record)
    with pytest.raises(ConfigError, match=rf"no importance file for source '{name}'; add import"):
        write_importance_of(config, name, probe_file)
    with pytest.raises(ConfigError, match=r"no source 'domian'; did you mean domain"):
        write_importance_of(config, "domian", probe_file)
    record["models"]["sources"][0]["importance"] = str(tmp_path / "x")
    heldout = [
        one.model_copy(update={"split": "heldout"}) for one in ProbeSet.from_jsonl(probe_file)
    ]
    ProbeSet(tuple(heldout)).to_jsonl(tmp_path / "heldout.jsonl")
    with pytest.raises(ProbeError, match=r"heldout.jsonl are held out; give probes that may be"):
        write_importance_of(SearchConfig.from_record(record), name, tmp_path / "heldout.jsonl")
    assert not (tmp_path / "x").exists()


def test_a_range_of_ranks_above_the_limit_is_refused_before_any_trial(
    record: dict[str, Any],
) -> None:
    record["merge"]["params"] = {"rank_limit": 0.25}
    record["space"]["rank_ratio"] = [0.05, 0.5]
    with pytest.raises(RecipeError, match=r"is 0.5, above rank_limit, which is 0.25"):
        open_workbench(SearchConfig.from_record(record))


def test_a_warm_start_without_a_gradient_is_refused_before_any_work(
    record: dict[str, Any],
) -> None:
    record["merge"]["method"] = "iso_cts"
    record["search"]["warm_start"] = {"steps": 2}
    with pytest.raises(
        ConfigError, match=r"'iso_cts' has no gradient .* set search.warm_start.steps = 0"
    ):
        open_workbench(SearchConfig.from_record(record))
