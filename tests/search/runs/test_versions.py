"""Versions other than those that a run was started with are said, and no more."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from search.runs.provenance import say_other_versions
from search.runs.rundir import RunDir

NOW = {"python": "3.12.1", "safemerge": "0.2.0", "torch": "2.13.0"}


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ({"torch": "2.12.0"}, "torch 2.12.0 (now 2.13.0)"),
        ({"safemerge": "0.1.0"}, "safemerge 0.1.0 (now 0.2.0)"),
        (
            {"python": "3.11.7", "torch": "2.9"},
            "python 3.11.7 (now 3.12.1), torch 2.9 (now 2.13.0)",
        ),
    ],
)
def test_what_differs_is_named_with_both_versions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, before: dict[str, str], said: str
) -> None:
    with caplog.at_level(logging.WARNING):
        say_other_versions(RunDir(tmp_path), NOW | before, NOW)
    assert f"{tmp_path} was started with {said}: scores of new trials may differ" in caplog.text


@pytest.mark.parametrize("left_out", ["safemerge", "torch", ""])
def test_equal_versions_and_those_never_recorded_are_not_spoken_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, left_out: str
) -> None:
    before = {name: version for name, version in NOW.items() if name != left_out}
    say_other_versions(RunDir(tmp_path), before, NOW)
    assert not caplog.records
