"""Pinned packages: what is fetched is what was pinned, or nothing is."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from safemerge.errors import BadInput
from synth.real.fetch import download, fetch
from synth.real.packages import Package

CONTENT = {"thing/data/a.txt": b"first", "thing/data/b.txt": b"second"}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_wheel(path: Path, content: Mapping[str, bytes] = CONTENT) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in content.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return path


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path / "thing-1.0-py3-none-any.whl")


@pytest.fixture
def package(wheel: Path) -> Package:
    files = {name: sha256(text) for name, text in CONTENT.items()}
    return Package("thing", "1.0", sha256(wheel.read_bytes()), "MIT", files)


def offline(package: Package, folder: Path) -> Path:
    raise AssertionError("nothing should be downloaded")


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_files_are_those_of_the_wheel_and_are_fetched_once(
    wheel: Path, package: Package, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    found = fetch(package, cache, download=lambda *_: wheel)
    assert {inside: path.read_bytes() for inside, path in found.items()} == CONTENT
    assert fetch(package, cache, download=offline) == found


def test_a_damaged_file_of_the_cache_is_fetched_again(
    wheel: Path, package: Package, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    damaged = fetch(package, cache, download=lambda *_: wheel)["thing/data/a.txt"]
    damaged.write_bytes(b"firs")
    assert fetch(package, cache, download=lambda *_: wheel)["thing/data/a.txt"].read_bytes() == (
        b"first"
    )


def test_another_wheel_is_refused_and_nothing_of_it_kept(
    wheel: Path, package: Package, tmp_path: Path
) -> None:
    other = make_wheel(tmp_path / "other.whl", {**CONTENT, "thing/more.txt": b"?"})
    with pytest.raises(BadInput, match=r"other\.whl of thing==1\.0 has sha256 \w{16}\.\.\., not"):
        fetch(package, tmp_path / "cache", download=lambda *_: other)
    assert not files_in(tmp_path / "cache")


def test_a_file_that_is_not_as_pinned_is_refused(
    wheel: Path, package: Package, tmp_path: Path
) -> None:
    wrong = replace(package, files={"thing/data/b.txt": sha256(b"third")})
    with pytest.raises(BadInput, match=r"the file thing/data/b\.txt of thing==1\.0 has sha256"):
        fetch(wrong, tmp_path / "cache", download=lambda *_: wheel)
    assert not files_in(tmp_path / "cache")


@pytest.mark.parametrize("archive", [True, False])
def test_a_wheel_without_the_file_is_refused(
    wheel: Path, package: Package, tmp_path: Path, archive: bool
) -> None:
    if not archive:
        wheel.write_bytes(b"not a zip file")
    wrong = replace(package, sha256=sha256(wheel.read_bytes()), files={"thing/c.txt": sha256(b"")})
    with pytest.raises(BadInput, match=r"thing==1\.0 holds no file thing/c\.txt"):
        fetch(wrong, tmp_path / "cache", download=lambda *_: wheel)


@pytest.mark.parametrize("path", ["../../out.txt", "/out.txt", "a/../../../out.txt"])
def test_no_path_of_a_wheel_leads_out_of_the_cache(tmp_path: Path, path: str) -> None:
    wheel = make_wheel(tmp_path / "thing.whl", {path: b"out", "../other.txt": b"never wanted"})
    package = Package("thing", "1", sha256(wheel.read_bytes()), "MIT", {path: sha256(b"out")})
    cache = tmp_path / "a" / "b" / "cache"
    before = {*files_in(tmp_path)}
    found = fetch(package, cache, download=lambda *_: wheel)[path]
    assert {*files_in(tmp_path)} - before == {found}
    assert found.resolve().is_relative_to(cache.resolve())


def test_what_pip_cannot_get_is_said_in_a_sentence(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    missing = replace(package, name="safemerge-no-such-package")
    with pytest.raises(BadInput, match=r"^the package safemerge-no-such-package==1\.0 cannot be "):
        download(missing, tmp_path)
