"""Progress reports: one callback everywhere, given by the caller that shows it."""

from __future__ import annotations

from collections.abc import Callable

# (stage, steps done, steps in all, note)
Report = Callable[[str, int, int, str], None]


def silent(stage: str, done: int, total: int, note: str) -> None:
    """Report nothing."""


def prefixed(report: Report, prefix: str) -> Report:
    """The same report with a prefix on every stage."""

    def tell(stage: str, done: int, total: int, note: str) -> None:
        report(f"{prefix}{stage}", done, total, note)

    return tell
