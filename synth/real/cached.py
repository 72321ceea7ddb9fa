"""What is dear to make, kept in a folder that is named by all that decides it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def content_key(decides: Any) -> str:
    """Sixteen hexadecimal digits of anything that JSON can hold."""
    text = json.dumps(decides, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cached(folder: Path, name: str, decides: Any, make: Callable[[Path], None]) -> Path:
    """The folder "<name>-<key>", made whole by `make` or found made; a kill leaves no half of it.

    Args:
        folder: where it lies.
        name: what it is, for people.
        decides: everything that its bytes follow from.
        make: fills an empty folder.
    """
    place = folder / f"{name}-{content_key(decides)}"
    if not place.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=folder))
        try:
            make(temporary)
            temporary.chmod(0o755)  # mkdtemp makes it private
            try:
                os.replace(temporary, place)
            except OSError:
                if not place.is_dir():  # else another was first, and its folder is the same
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return place
