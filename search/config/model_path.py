"""Where a config file's model is: in the file's folder, at an absolute path, or on the Hub."""

from __future__ import annotations

from pathlib import Path

from safemerge.errors import ConfigError
from safemerge.io import is_hub_id


def model_path(path: str, folder: Path) -> str:
    """An absolute path, or a hub id; a relative path is one from `folder`, the file's own.

    Raises:
        ConfigError: the folder has no such path and the working directory has one, which is not
            taken in silence; both are named.
    """
    here = folder / path
    if here.exists() or Path(path).expanduser().is_absolute():
        return path if path.startswith("~") else str(here)  # an absolute path swallows the folder
    if Path(path).exists():
        raise ConfigError(
            f"the model {path!r} is not at {here}, where the config file lies, and there is "
            f"another of that name in the working directory, {Path(path).absolute()}; write the "
            "absolute path, or one from the file's folder"
        )
    return path if is_hub_id(path) and not path.startswith(".") else str(here)
