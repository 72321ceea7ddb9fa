"""The demo on the real model: its configuration, and what is refused before anything is fetched.

That it runs is shown by `make real`, which fetches 120 MB and trains for minutes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from safemerge.errors import OutputError
from search.commands.real_demo import RealDemoSettings, real_config, run_real_demo
from search.config import SearchConfig
from synth.probes.jsonl import write_jsonl
from synth.probes.probe import AXES
from synth.real.ground import RealGround
from synth.real.probes import RealProbes


@pytest.fixture
def config(tmp_path: Path) -> SearchConfig:
    questions = {axis: tmp_path / f"{axis}.jsonl" for axis in AXES}
    for number, path in enumerate(questions.values(), start=3):
        write_jsonl(path, [{"question": f"{path.stem} {i} ?"} for i in range(number)])
    experts = {name: tmp_path / name for name in ("domain", "refusing", "abstaining")}
    ground = RealGround(base=tmp_path / "base", experts=experts, prompts=())
    probes = RealProbes(questions=questions, heldout=tmp_path / "heldout.jsonl")
    return real_config(ground, probes, tmp_path / "run", RealDemoSettings(seed=3))


def test_the_run_asks_all_questions_that_it_brings(config: SearchConfig, tmp_path: Path) -> None:
    assert config.seed == 3
    assert [each.name for each in config.models.sources] == ["domain", "refusing", "abstaining"]
    assert config.probes.write is not None
    assert [config.probes.write.counts.of(axis) for axis in AXES] == [3, 4, 5, 6]
    assert config.probes.write.domain.questions == str(tmp_path / "domain.jsonl")


def test_nobody_needs_to_review_where_all_questions_are_brought(config: SearchConfig) -> None:
    assert config.probes.write is not None
    assert all(config.probes.write.brings(axis) for axis in AXES)


def test_too_little_disk_is_said_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAFEMERGE_CACHE", str(tmp_path / "cache"))
    little = SimpleNamespace(total=2e9, used=1e9, free=1e9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: little)
    with pytest.raises(OutputError, match=r"has 1\.0 GB free, and .* take about 1\.5 GB"):
        run_real_demo(tmp_path / "run", RealDemoSettings())
    assert not list((tmp_path / "cache" / "real").iterdir())
