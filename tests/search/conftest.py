"""A search over the hardly trained small world: real models and probes, two seconds a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from search.commands.search_and_measure import search_and_measure
from search.config import SearchConfig
from search.warmstart.probe_losses import GroupLosses, ProbeLosses
from synth.probes.probe import ProbeSet
from synth.zoo import World, Zoo, probes


@pytest.fixture(scope="session")
def probe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight search probes of each axis, drawn from the world's truth."""
    path = tmp_path_factory.mktemp("probes") / "probes.jsonl"
    ProbeSet(tuple(probes(World(0), "search", 8))).to_jsonl(path)
    return path


@pytest.fixture
def record(raw_zoo: Zoo, probe_file: Path) -> dict[str, Any]:
    """A config as a record, small and without warm start."""
    return _record(raw_zoo, probe_file)


@pytest.fixture(scope="session")
def measured_run(raw_zoo: Zoo, probe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 trials with a baseline, measured on held-out probes. Copy it to change it."""
    record, home = _record(raw_zoo, probe_file), tmp_path_factory.mktemp("measured") / "run"
    record["search"]["trials"] = 20
    search_and_measure(SearchConfig.from_record(record), home, baselines=["without_safety"])
    return home


def _record(raw_zoo: Zoo, probe_file: Path) -> dict[str, Any]:
    return {
        "schema": 1,
        "seed": 3,
        "models": {
            "base": str(raw_zoo.base),
            "sources": [{"name": name, "path": str(p)} for name, p in raw_zoo.sources.items()],
        },
        "merge": {"method": "resm"},
        "space": {"places": "layers"},
        "probes": {
            "path": str(probe_file),
            "heldout_frac": 0.25,
            "validation_frac": 0.25,
            "max_tokens": 8,
            "judge": "phrases",
            "retention": str(raw_zoo.general),
        },
        "limits": {"degenerate": {"at_most": 1.0}},
        "search": {"trials": 4, "warm_start": {"steps": 0}},
    }


@pytest.fixture
def config(record: dict[str, Any]) -> SearchConfig:
    """The record as a config."""
    return SearchConfig.from_record(record)


@pytest.fixture
def linearised(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The knots at which a warm start takes gradients from now on, in order."""
    made: list[torch.Tensor] = []
    measure = ProbeLosses.measure

    def measured(self: ProbeLosses, knots: torch.Tensor) -> GroupLosses | None:
        made.append(knots)
        return measure(self, knots)

    monkeypatch.setattr(ProbeLosses, "measure", measured)
    return made
