"""write_at: whatever way the bytes take, they lie where they belong."""

import errno
import os
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safemerge.io.direct_io import write_at

MIB = 2**20


def write_all(path: Path, start: int, lengths: list[int], seed: int) -> bytes:
    """Pieces that follow on one another, written in any order by four threads; what they are."""
    path.write_bytes(b"h" * start)
    whole = np.random.default_rng(seed).integers(0, 256, sum(lengths), np.uint8)
    ends = np.cumsum([0, *lengths]).tolist()
    places = list(pairwise(ends))
    random.Random(seed).shuffle(places)
    with ThreadPoolExecutor(4) as pool:
        for done in [
            pool.submit(write_at, path, whole[begin:end], start + begin) for begin, end in places
        ]:
            done.result()
    return b"h" * start + whole.tobytes()


@settings(max_examples=30, deadline=None)
@given(
    start=st.integers(0, 9000),
    lengths=st.lists(
        st.one_of(st.integers(0, 9000), st.integers(MIB - 9000, 2 * MIB)), min_size=1, max_size=6
    ),
    seed=st.integers(0, 99),
)
def test_pieces_of_any_length_lie_side_by_side(start: int, lengths: list[int], seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        expected = write_all(path, start, lengths, seed)
        assert path.read_bytes() == expected


def test_a_piece_longer_than_the_memory_it_goes_through(tmp_path: Path) -> None:
    expected = write_all(tmp_path / "file", 8, [9 * MIB + 5, 4 * MIB, 3], seed=0)
    assert (tmp_path / "file").read_bytes() == expected


@pytest.mark.parametrize("refuses", ["open", "write", "half of a write"])
def test_a_file_system_without_direct_writes(
    refuses: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct: set[int] = set()
    open_, pwrite, close = os.open, os.pwrite, os.close

    def opened(path: Path, flags: int) -> int:
        if not flags & os.O_DIRECT:
            return open_(path, flags)
        if refuses == "open":
            raise OSError(errno.EINVAL, "Invalid argument")
        direct.add(descriptor := open_(path, flags & ~os.O_DIRECT))
        return descriptor

    def written(descriptor: int, data: memoryview, offset: int) -> int:
        if descriptor in direct:
            if refuses == "write" or offset % 4096:
                raise OSError(errno.EINVAL, "Invalid argument")
            data = data[: len(data) // 2 + 5]
        return pwrite(descriptor, data, offset)

    def closed(descriptor: int) -> None:
        direct.discard(descriptor)
        close(descriptor)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "pwrite", written)
    monkeypatch.setattr(os, "close", closed)
    expected = write_all(tmp_path / "file", 8, [2 * MIB, 3, MIB + 7], seed=1)
    assert (tmp_path / "file").read_bytes() == expected


def test_a_system_without_direct_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_DIRECT", raising=False)
    expected = write_all(tmp_path / "file", 8, [2 * MIB, 3], seed=2)
    assert (tmp_path / "file").read_bytes() == expected


def test_an_error_that_is_no_refusal_of_direct_writes_is_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_at(tmp_path / "gone", np.zeros(2 * MIB, np.uint8), 0)
