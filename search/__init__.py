"""search: the optimizer over merge recipes. Public names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.config import SearchConfig
    from search.results.pareto import Candidate, Front
    from search.results.run import Run
    from search.study.study import run_search

__all__ = ["Candidate", "Front", "Run", "SearchConfig", "run_search"]

_HOME = {
    "Candidate": "search.results.pareto",
    "Front": "search.results.pareto",
    "Run": "search.results.run",
    "SearchConfig": "search.config",
    "run_search": "search.study.study",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
