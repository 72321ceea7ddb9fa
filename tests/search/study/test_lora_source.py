"""A LoRA adapter among the sources of a search, from the probes' writers to the export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from safemerge.io import open_checkpoint
from search.commands.write_probes import writers
from search.config import SearchConfig
from search.results.export import export
from search.study.study import run_search
from synth.engines.transformers import TransformersEngine
from synth.zoo import Zoo

NAME = "model.layers.0.mlp.up_proj"


@pytest.fixture
def delta(raw_zoo: Zoo) -> torch.Tensor:
    """Of rank 1, on one matrix of the base."""
    out, width = open_checkpoint(raw_zoo.base).tensors[f"{NAME}.weight"].shape
    return 0.5 * torch.outer(torch.linspace(-1, 1, out), torch.linspace(1, 2, width))


@pytest.fixture
def config(
    record: dict[str, Any], raw_zoo: Zoo, delta: torch.Tensor, tmp_path: Path
) -> SearchConfig:
    """The first source is an adapter."""
    folder = tmp_path / "lora"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 2})
    )
    factors = {
        f"base_model.model.{NAME}.lora_A.weight": torch.linspace(1, 2, delta.shape[1])[None],
        f"base_model.model.{NAME}.lora_B.weight": torch.linspace(-1, 1, len(delta))[:, None] / 4,
    }
    save_file(factors, folder / "adapter_model.safetensors")
    first, *others = record["models"]["sources"]
    sources = [{"name": first["name"], "path": str(folder)}, *others]
    search = {"trials": 2, "warm_start": {"steps": 1}}
    return SearchConfig.from_record(
        record
        | {"models": {"base": str(raw_zoo.base), "sources": sources}, "search": search}
        | {"merge": {"method": "resm", "tokenizer": "base"}}
    )


def test_an_adapter_writes_probes_as_the_model_that_it_makes(
    config: SearchConfig, raw_zoo: Zoo, delta: torch.Tensor
) -> None:
    pool = writers(config)
    reference = TransformersEngine(raw_zoo.base)
    pairs = [("who ?", "me"), ("what is it ?", "a lamp")]
    before = reference.loglikelihood(pairs)
    with torch.no_grad():
        reference.model.get_parameter(f"{NAME}.weight").add_(delta)
    after = reference.loglikelihood(pairs)
    adapter = pool[config.models.sources[0].name]
    for _ in range(2):  # they share an engine, and take turns
        for engine, wanted in ((adapter, after), (pool["base"], before)):
            said = [likelihood.logprob for likelihood in engine.loglikelihood(pairs)]
            assert said == pytest.approx([one.logprob for one in wanted], abs=1e-4)
    assert before != after


def test_a_search_over_an_adapter_is_pinned_and_exported(
    config: SearchConfig, tmp_path: Path
) -> None:
    run = run_search(config, tmp_path / "run")
    lock = json.loads((tmp_path / "run" / "lock.json").read_text())
    assert lock["inputs"].keys() == {"base", *(s.name for s in config.models.sources)}
    export(run, run.pick().number, tmp_path / "out")
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["tokenizer"] == "base"
