"""safemerge: merging checkpoints. Public names load on first use, so that importing is cheap."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safemerge.errors import BadInput as BadInput
    from safemerge.errors import SafemergeError as SafemergeError
    from safemerge.live import stored_views as stored_views
    from safemerge.mergekit import from_mergekit as from_mergekit
    from safemerge.mergekit import to_mergekit as to_mergekit
    from safemerge.merging import MergeOptions as MergeOptions
    from safemerge.merging import merge as merge
    from safemerge.recipe import ModelRef as ModelRef
    from safemerge.recipe import Recipe as Recipe
    from safemerge.resident import ResidentMerge as ResidentMerge

__version__ = "0.1.0"

_HOME = {
    "BadInput": "errors",
    "MergeOptions": "merging",
    "ModelRef": "recipe",
    "Recipe": "recipe",
    "ResidentMerge": "resident",
    "SafemergeError": "errors",
    "from_mergekit": "mergekit",
    "merge": "merging",
    "stored_views": "live",
    "to_mergekit": "mergekit",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"safemerge.{_HOME[name]}"), name)
