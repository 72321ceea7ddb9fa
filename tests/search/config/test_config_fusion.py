"""The section [fusion]."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from safemerge.errors import ConfigError
from search.config import FusionConfig, SearchConfig

RECORD: dict[str, Any] = {
    "schema": 1,
    "models": {
        "base": "./base",
        "sources": [{"name": "medic", "path": "./medic"}, {"name": "guard", "path": "./guard"}],
    },
    "probes": {"path": "probes.jsonl", "judge": "phrases"},
}


def section(**keys: Any) -> FusionConfig:
    found = SearchConfig.from_record({**RECORD, "fusion": keys}).fusion
    assert found is not None
    return found


def test_the_template_shows_the_section_with_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text((files("search.config") / "template.toml").read_text())
    config = SearchConfig.from_toml(path)
    assert config.fusion is not None
    experts = {"domain": "medic", "harmless": "guard"}
    assert config.fusion == FusionConfig(experts=experts)


def test_gammas_are_in_the_order_of_the_sources() -> None:
    assert section(gamma=0.5).gammas(["medic", "guard"]) == (0.5, 0.5)
    assert section(gamma={"guard": 2.0}).gammas(["medic", "guard"]) == (0.0, 2.0)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"experts": {"harmles": "guard"}}, "unknown axis 'harmles'; did you mean harmless"),
        ({"experts": {"harmless": "gard"}}, "experts names 'gard', which is no source; did you"),
        ({"gamma": {"gard": 1.0}}, "gamma names 'gard', which is no source; did you mean guard"),
        ({"gamma": {"guard": -1.0}}, "gamma of guard is -1; it must be at least 0"),
        ({"alignment": {"gard": "x"}}, "alignment names 'gard', which is no source"),
        ({"topk": 2}, "unknown key 'fusion.topk'; did you mean top_k"),
        ({"regulariser": "l1"}, "'drift' or 'norm'"),
    ],
)
def test_what_is_wrong_is_one_sentence(keys: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        section(**keys)


def test_files_are_beside_the_config(tmp_path: Path) -> None:
    config = SearchConfig.from_record(
        {**RECORD, "fusion": {"anchor": "best.json", "alignment": {"guard": "guard.jsonl"}}},
        folder=tmp_path,
    )
    assert config.fusion is not None
    assert config.fusion.anchor == str(tmp_path / "best.json")
    assert config.fusion.alignment == {"guard": str(tmp_path / "guard.jsonl")}
    for model in ("base", "medic", "search"):
        record = {**RECORD, "fusion": {"anchor": model}}
        named = SearchConfig.from_record(record, folder=tmp_path).fusion
        assert named is not None
        assert named.anchor == model
