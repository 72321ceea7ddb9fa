"""The cache holds whole folders, each made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from synth.real.cached import cached


def test_a_folder_is_made_once_for_what_decides_it(tmp_path: Path) -> None:
    made: list[int] = []

    def make(empty: Path) -> None:
        made.append(len(made))
        (empty / "x").write_text(str(made[-1]))

    first = cached(tmp_path, "thing", [1, "a"], make)
    assert cached(tmp_path, "thing", [1, "a"], make) == first
    assert cached(tmp_path, "thing", [1, "b"], make) != first
    assert made == [0, 1]
    assert (first / "x").read_text() == "0"


def test_what_fails_half_way_leaves_nothing_and_can_be_made_again(tmp_path: Path) -> None:
    def fail(empty: Path) -> None:
        (empty / "x").write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        cached(tmp_path, "thing", 1, fail)
    assert not list(tmp_path.iterdir())
    place = cached(tmp_path, "thing", 1, lambda empty: (empty / "x").write_text("whole") and None)
    assert (place / "x").read_text() == "whole"
