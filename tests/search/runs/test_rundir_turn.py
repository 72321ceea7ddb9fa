"""A Ctrl-C ends the wait for a run's turn, and a wait with an end says whether the turn came."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from search.runs.rundir import RunDir

WAIT = """
import sys
from search.runs.rundir import RunDir
from search.study.interrupts import uninterrupted
try:
    print("waits", flush=True)
    with RunDir(sys.argv[1]).turn(), uninterrupted():
        print("had its turn")
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_a_ctrl_c_ends_the_wait_for_a_turn(tmp_path: Path) -> None:
    with (tmp_path / ".turn").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        command = [sys.executable, "-c", WAIT, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"waits\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert process.stdout.read() == b""


@pytest.mark.parametrize("wait_s", [0.0, 0.01, 0.1])
def test_a_wait_with_an_end_says_whether_the_turn_came(tmp_path: Path, wait_s: float) -> None:
    home = RunDir(tmp_path)
    with home.turn() as first, home.turn(wait_s=wait_s) as second:
        assert (first, second) == (True, False)
    with home.turn(wait_s=wait_s) as third:
        assert third
