"""Who gives the replies of trials: the live model, or vLLM with its weights swapped in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import search.runs.workbench
from search.config import SearchConfig
from search.results.run import Run
from search.runs.workbench import open_workbench
from search.study.study import run_search
from synth.engines.template import ChatSettings
from synth.zoo import ZooSpec, build_zoo


def on_vllm(record: dict[str, Any]) -> SearchConfig:
    return SearchConfig.from_record(record | {"engine": {"kind": "vllm"}})


def replies(run: Run, trial: int, folder: str = "validation") -> list[str]:
    file = run.dir.path / f"{folder}/trial-{trial:05d}.jsonl"
    return [json.loads(line)["reply"] for line in file.read_text("utf-8").splitlines()]


class Recorder:
    """Stands for vLLM: says how often its weights were swapped, and keeps them."""

    opened: ClassVar[list[Recorder]] = []

    def __init__(
        self, path: str, *, dtype: torch.dtype, arguments: Mapping[str, Any], chat: ChatSettings
    ) -> None:
        self.path = path
        self.swaps: list[dict[str, Tensor]] = []
        Recorder.opened.append(self)

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        self.swaps.append({name: tensor.clone() for name, tensor in state.items()})

    def chat(self, prompts: Sequence[str], **settings: Any) -> list[str]:
        return [str(len(self.swaps))] * len(prompts)


def test_each_trial_that_answers_has_its_weights_swapped_in(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.runs.workbench, "VllmEngine", Recorder)
    monkeypatch.setattr(Recorder, "opened", [])
    run = run_search(on_vllm(record), tmp_path / "run")
    (engine,) = Recorder.opened
    assert engine.path == record["models"]["base"]
    points = json.loads((run.dir.path / "front/search.json").read_text("utf-8"))["points"]
    # Base and sources answer first: the general prompts at the start, the probes before trials do.
    models = 2 * (1 + len(record["models"]["sources"]))
    folders = ("validation", "validation/general")
    assert len(engine.swaps) == models + len(folders) * len(points)
    bench = open_workbench(run.config)
    recipes = {candidate.number: candidate.recipe for candidate in run.candidates}
    asked = [(folder, point) for folder in folders for point in points]
    for swap, (folder, point) in enumerate(asked, models):
        assert set(replies(run, point["trial"], folder)) == {str(swap + 1)}
        recipe = recipes[point["trial"]]
        for name, tensor in bench.resident(recipe).merged(recipe):
            assert torch.equal(engine.swaps[swap][name], tensor)


def test_another_engine_is_asked_anew(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.runs.workbench, "VllmEngine", Recorder)
    before = run_search(on_vllm(record), tmp_path / "run")
    trial = before.pick().number
    assert replies(before, trial)[0].isdigit()
    after = run_search(SearchConfig.from_record(record), tmp_path / "run")
    assert [c.scores for c in after.candidates] == [c.scores for c in before.candidates]
    assert not replies(after, trial)[0].isdigit()


@pytest.mark.vllm
def test_vllm_says_of_every_trial_what_the_live_model_says(
    record: dict[str, Any], tmp_path: Path
) -> None:
    # Wider than elsewhere: vLLM on a CPU has no attention for heads of less than 32.
    zoo = build_zoo(tmp_path / "zoo", ZooSpec(effort=0.02), processes=1)
    sources = [{"name": name, "path": str(path)} for name, path in zoo.sources.items()]
    record["models"] = {"base": str(zoo.base), "sources": sources}
    run = run_search(on_vllm(record), tmp_path / "run")
    points = json.loads((run.dir.path / "front/search.json").read_text("utf-8"))["points"]
    assert points
    bench = open_workbench(SearchConfig.from_record(record))
    assert bench.validation is not None
    prompts = [probe.prompt for probe in bench.validation.probes]
    recipes = {candidate.number: candidate.recipe for candidate in run.candidates}
    for point in points:
        bench.make_live(recipes[point["trial"]])
        expected = bench.engine.chat(prompts, max_tokens=8)
        said = replies(run, point["trial"])
        assert said == expected
