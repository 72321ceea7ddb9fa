"""Which files of a checkpoint folder may be opened, and how their JSON is read.

An index or a symbolic link decides which file is opened next, so every path goes through `inside`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from safemerge.errors import CheckpointError


def inside(folder: Path, name: str) -> Path:
    """The file `name` (a relative path, as an index writes it) of a checkpoint folder.

    A Hub snapshot (`models--org--name/snapshots/<revision>`) is made of links into the `blobs`
    folder of the same repository; those are the only links out of the folder that are followed.
    """
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise CheckpointError(
            f"{folder} refers to {name!r}, which is not a file of that folder; "
            "such a checkpoint is not safe to read, get it from another place"
        )
    path = folder / pure
    # realpath, because Path.resolve raises on a link that leads to itself.
    root, target = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
    if target.is_relative_to(root):
        return path
    if root.parent.name == "snapshots" and target.parent == root.parent.parent / "blobs":
        return path
    raise CheckpointError(
        f"{path} is a link to {target}, outside the checkpoint folder; "
        "copy the file itself into the folder"
    )


def setting(config: Mapping[str, Any], key: str) -> Any:
    """A key of config.json, or else of the text_config of a model of several kinds of input."""
    inner = config.get("text_config")
    return config.get(key, inner.get(key) if isinstance(inner, dict) else None)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object; all else is a CheckpointError."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}); download or copy it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(
            f"{path} holds a JSON {type(value).__name__}, not an object; download or copy it again"
        )
    return value
