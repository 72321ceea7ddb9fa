"""A damaged journal: its end is cut off, its middle refused, in a sentence with file and line."""

from __future__ import annotations

import logging
from pathlib import Path

import optuna
import pytest

from safemerge.errors import RunError
from search.study.journal import Journal, mend_journal

LINES = {
    "half a line": b'{"op_code":5,"worker_id":"x","tr\n',
    "zero bytes": b"\0" * 700 + b"\n",
    "an empty line": b"\n",
    "two of them": b"\n{\n",
    "no record": b"[1, 2]\n",
    "bytes that are no text": b"\xff\xfe\n",
    "a record without its keys": b'{"op_code":4,"worker_id":"x"}\n',
    "an operation that is none": b'{"op_code":99,"worker_id":"x"}\n',
}


def study(path: Path) -> optuna.Study:
    storage = optuna.storages.JournalStorage(Journal(str(path)))
    return optuna.create_study(study_name="s", storage=storage, load_if_exists=True)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Three finished trials."""
    path = tmp_path / "study.journal"
    study(path).optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    return path


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_a_damaged_end_is_cut_off_and_the_study_goes_on(
    journal: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    whole = journal.read_bytes()
    journal.write_bytes(whole + line)
    with caplog.at_level(logging.WARNING):
        mend_journal(journal)
    number = whole.count(b"\n") + 1
    assert f"{journal} is damaged from line {number} on" in caplog.text
    assert journal.read_bytes() == whole
    again = study(journal)
    again.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert [trial.number for trial in study(journal).trials] == [0, 1, 2, 3]


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_a_damaged_middle_is_refused_with_its_line_and_stays_as_it_is(
    journal: Path, line: bytes
) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    content = b"".join([*lines[:2], line, *lines[2:]])
    journal.write_bytes(content)
    with pytest.raises(RunError) as caught:
        mend_journal(journal)
    assert f"{journal}, line 3 is damaged, and the lines after it mean nothing" in str(caught.value)
    assert "search.start_from" in str(caught.value)
    assert journal.read_bytes() == content


@pytest.mark.parametrize("torn", [b"", b'{"op_code":4', b"\0" * 70])
def test_a_sound_journal_is_left_alone(
    journal: Path, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    content = journal.read_bytes() + torn
    journal.write_bytes(content)
    mend_journal(journal)
    mend_journal(journal.with_name("none.journal"))
    assert journal.read_bytes() == content
    assert not caplog.records
