"""The work file: what is kept, what a torn or damaged line costs, what a key tells apart."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safemerge.errors import OutputError
from synth.writing.replay import WorkFile


def never() -> list[str]:
    raise AssertionError("asked again")


def filled(path: Path, n: int = 3) -> list[list[str]]:
    """A file of n lines."""
    work = WorkFile(path)
    return [work.recall(["key", i], lambda i=i: [f"a{i}", "\x00\n\u2028"]) for i in range(n)]


def test_what_is_kept_is_not_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "w.jsonl"
    texts = filled(path)
    again = WorkFile(path)
    assert [again.recall(["key", i], never) for i in range(3)] == texts
    assert again.recall(["key", "2"], lambda: ["other"]) == ["other"]
    again.remove()
    assert not path.exists()
    again.remove()


def test_without_a_path_everything_is_asked_for(tmp_path: Path) -> None:
    work = WorkFile(None)
    assert work.recall(["k"], lambda: ["a"]) == ["a"]
    assert work.recall(["k"], lambda: ["b\ud800"]) == ["b?"]
    work.remove()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(min_value=1))
def test_a_file_cut_anywhere_keeps_its_whole_lines_and_takes_new_ones(
    cut: int, tmp_path: Path
) -> None:
    path = tmp_path / "w.jsonl"
    path.unlink(missing_ok=True)
    texts = filled(path)
    content = path.read_bytes()
    content = content[: cut % len(content)]
    path.write_bytes(content)
    whole = content.count(b"\n")
    work = WorkFile(path)
    assert [work.recall(["key", i], never) for i in range(whole)] == texts[:whole]
    for i in range(whole, 3):
        assert work.recall(["key", i], lambda i=i: texts[i]) == texts[i]
    last = WorkFile(path)
    assert [last.recall(["key", i], never) for i in range(3)] == texts
    assert path.read_bytes().startswith(content)  # nothing is ever written over


@pytest.mark.parametrize("damage", [b"a9", b"{", b"\xff"])
def test_a_damaged_line_is_named_and_costs_itself_alone(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "w.jsonl"
    texts = filled(path)
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b"a1", damage)
    path.write_bytes(b"\n".join(lines))
    with caplog.at_level(logging.WARNING):
        work = WorkFile(path)
    assert [work.recall(["key", i], never) for i in (0, 2)] == [texts[0], texts[2]]
    assert work.recall(["key", 1], lambda: ["fresh"]) == ["fresh"]
    assert len(caplog.messages) == 1
    assert "w.jsonl, line 2 is damaged or half-written" in caplog.messages[0]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        WorkFile(tmp_path / "file" / "w.jsonl").recall(["k"], lambda: ["a"])
    with pytest.raises(OutputError, match="cannot read the work file"):
        WorkFile(tmp_path)
