"""Errors that tell a user what was wrong, where, and what to do, in one sentence or two.

`exit_code` is what the command line returns: 2 for bad input or a missing prerequisite, 1 for a
failure of the work.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from difflib import get_close_matches
from types import ModuleType
from typing import ClassVar


class SafemergeError(Exception):
    """Base of all errors raised on purpose by safemerge, synth and search."""

    exit_code: ClassVar[int] = 1


class BadInput(SafemergeError):
    """The user's input cannot be used. Nothing has been written."""

    exit_code: ClassVar[int] = 2


class CheckpointError(BadInput):
    """A checkpoint folder, file or tensor is missing, damaged or does not fit the others."""


class RecipeError(BadInput):
    """A recipe names something that does not exist or holds a value out of range."""


class ConfigError(BadInput):
    """A configuration file or a `--set` value is not valid."""


class ProbeError(BadInput):
    """A probe file is empty, damaged, or lacks what was asked of it."""


class JudgeError(BadInput):
    """A judge cannot be read, or a file of human verdicts is damaged."""


class OutputError(BadInput):
    """The output cannot be written: the folder is not empty, or the disk is full."""


class EngineError(SafemergeError):
    """A model stopped answering: its server is down or broken, or the engine failed at work."""


class MissingDependency(BadInput):
    """An optional package is not installed."""


class RunError(SafemergeError):
    """A run directory is in use, or does not belong to this configuration."""

    exit_code: ClassVar[int] = 2


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional module, or say which extra of pyproject.toml installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingDependency(
            f"this needs the package {module!r}, which is not installed; "
            f'install it with: pip install "safemerge[{extra}]"'
        ) from error


def near_names(name: str, known: Iterable[str]) -> str:
    """The tail of an "unknown name" message: the nearest known names, else all of them.

    >>> near_names("tsvn", ["tsvm", "linear"])
    'did you mean tsvm?'
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names)}"
