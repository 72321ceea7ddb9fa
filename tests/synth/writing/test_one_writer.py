"""One command at a time writes a probe file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from safemerge.errors import OutputError
from synth.writing.one_writer import one_writer

HOLD = """
import sys
from pathlib import Path
from synth.writing.one_writer import one_writer
with one_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_command_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "probes.jsonl"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(OutputError, match=r"another command is writing .*probes\.jsonl; wait"),
            one_writer(path),
        ):
            pass
        with one_writer(tmp_path / "other.jsonl"):
            pass
        other.kill()  # a kill frees it too
        other.wait()
        with one_writer(path):
            pass


def test_a_folder_that_cannot_be_written_is_said_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Not a directory"), one_writer(tmp_path / "file" / "p"):
        pass


def test_a_file_that_is_finished_needs_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "probes.jsonl"
    path.write_text("")
    with one_writer(path):
        assert [file.name for file in tmp_path.iterdir()] == ["probes.jsonl"]
