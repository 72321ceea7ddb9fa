"""Whether a folder can be written is found out by writing, and said with the system's cause."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from safemerge.errors import OutputError
from safemerge.writable import check_writable


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB in memory, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", ["here", "here/new", "here/new/below"])
def test_a_folder_that_can_be_made_leaves_no_trace(tmp_path: Path, name: str) -> None:
    (tmp_path / "here").mkdir()
    check_writable(tmp_path / name)
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]


@pytest.mark.parametrize("below", ["", "run", "runs/medical"])
def test_a_file_in_the_way_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("keep")
    with pytest.raises(OutputError, match=r"cannot be written.*: Not a directory") as caught:
        check_writable(tmp_path / "file" / below)
    assert caught.value.exit_code == 2
    assert (tmp_path / "file").read_text() == "keep"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
@pytest.mark.parametrize("name", ["/proc/new", "/proc/self/new", "/proc/new/run"])
def test_a_file_system_that_takes_no_files_is_no_place(name: str) -> None:
    with pytest.raises(OutputError, match=r"since nothing can be written to /proc\S*: \w+"):
        check_writable(Path(name))


def test_a_read_only_file_system_is_said(disk: Path) -> None:
    check_writable(disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(OutputError, match=r"since nothing .*: Read-only file system"):
        check_writable(disk / "run")


def test_a_full_disk_is_said_and_nothing_is_left_on_it(disk: Path) -> None:
    (disk / "neighbour").write_bytes(bytes(2**16))
    with pytest.raises(OutputError, match=r"since nothing .*: No space left on device"):
        check_writable(disk / "run")
    assert [path.name for path in disk.iterdir()] == ["neighbour"]
