"""safemerge: merging checkpoints. Public names load on first use, so that importing is cheap."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safemerge.errors import BadInput, SafemergeError
    from safemerge.live import stored_views
    from safemerge.mergekit import from_mergekit, to_mergekit
    from safemerge.merging import merge
    from safemerge.recipe import ModelRef, Recipe
    from safemerge.resident import ResidentMerge

__all__ = [
    "BadInput",
    "ModelRef",
    "Recipe",
    "ResidentMerge",
    "SafemergeError",
    "from_mergekit",
    "merge",
    "stored_views",
    "to_mergekit",
]
__version__ = "0.1.0"

_HOME = {
    "BadInput": "safemerge.errors",
    "ModelRef": "safemerge.recipe",
    "Recipe": "safemerge.recipe",
    "ResidentMerge": "safemerge.resident",
    "SafemergeError": "safemerge.errors",
    "from_mergekit": "safemerge.mergekit",
    "merge": "safemerge.merging",
    "stored_views": "safemerge.live",
    "to_mergekit": "safemerge.mergekit",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
