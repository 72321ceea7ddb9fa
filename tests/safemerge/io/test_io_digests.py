"""Digests that are remembered: only of files that are still what they were."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from safetensors.torch import save_file

from safemerge.io import open_checkpoint
from safemerge.io.digests import FileState, recall, remember

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, in which files that have just been written are remembered too."""
    monkeypatch.setenv("SAFEMERGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("safemerge.io.digests.TIME_RESOLUTION_S", -1e9)


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object) -> NoReturn:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr("safemerge.io.reader.read_pieces", forbidden)


def test_a_model_that_was_hashed_before_is_not_read_again(
    sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = open_checkpoint(sharded).content_hash()
    forbid_reading(monkeypatch)
    assert open_checkpoint(sharded).content_hash() == digest


def test_a_model_in_another_place_is_hashed_anew_and_is_the_same(
    golden: Path, tmp_path: Path
) -> None:
    digest = open_checkpoint(golden).content_hash()
    assert open_checkpoint(golden.rename(tmp_path / "moved")).content_hash() == digest


def test_a_changed_file_with_its_old_size_and_times_is_hashed_again(make: Make) -> None:
    folder = make("model", {"w": torch.zeros(8)})
    file = folder / "model.safetensors"
    before, times = open_checkpoint(folder).content_hash(), file.stat()
    with file.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"\1")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_size == times.st_size
    assert file.stat().st_mtime_ns == times.st_mtime_ns
    assert open_checkpoint(folder).content_hash() != before


def test_a_shard_that_changed_alone_is_hashed_again(sharded: Path) -> None:
    before = open_checkpoint(sharded).content_hash()
    shard = sorted(sharded.glob("*.safetensors"))[1]
    checkpoint = open_checkpoint(sharded)
    tensors = {n: checkpoint.load(n) for n, i in checkpoint.tensors.items() if i.file == shard}
    next(iter(tensors.values())).add_(1)
    save_file(tensors, shard, metadata={"format": "pt"})
    assert open_checkpoint(sharded).content_hash() != before


def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(make: Make) -> None:
    file = make("model", {"w": torch.zeros(8)}) / "model.safetensors"
    state = FileState.of(file)
    file.touch()
    remember(state, {"w": "0" * 64})
    assert recall(state) == recall(FileState.of(file)) == {}


def test_a_file_that_changed_just_now_is_not_remembered(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safemerge.io.digests.TIME_RESOLUTION_S", 2.0)
    folder = make("model", {"w": torch.zeros(8)})
    state = FileState.of(folder / "model.safetensors")
    assert not state.settled
    open_checkpoint(folder).content_hash()
    assert recall(state) == {}


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"stamp": 1, "digests": {}}', "\0"])
def test_a_damaged_record_is_hashed_over(golden: Path, tmp_path: Path, damage: str) -> None:
    digest = open_checkpoint(golden).content_hash()
    (record,) = (tmp_path / "cache" / "digests").iterdir()
    record.write_text(damage)
    assert open_checkpoint(golden).content_hash() == digest


def test_a_cache_that_cannot_be_written_is_no_error(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAFEMERGE_CACHE", str(tmp_path / "file"))
    assert len(open_checkpoint(golden).content_hash()) == 64
