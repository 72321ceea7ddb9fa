"""The limits that a search has unless its file says otherwise: what no probe asks must hold too."""

from __future__ import annotations

from typing import Any

# A source that was tuned with care stays well inside; docs/probes.md#retention has the figures.
DEFAULT_LIMITS: dict[str, dict[str, Any]] = {
    "divergence": {"at_most": 0.5},
    "general_refusal": {"at_most": "base + 0.05"},
    "general_degenerate": {"at_most": "base + 0.05"},
}


def fill_retention(record: dict[str, Any], *, of_run: bool) -> None:
    """Write the default limits into a parsed file where it names none of its own.

    Args:
        record: of the whole file, perhaps not valid; changed in place.
        of_run: a run's own record, which has its limits, and no retention before it was known.
    """
    probes = record.get("probes")
    if not isinstance(probes, dict):
        return
    if of_run:
        probes.setdefault("retention", "off")
    elif probes.get("retention") != "off":
        limits = record.setdefault("limits", {})
        if isinstance(limits, dict):
            for metric, limit in DEFAULT_LIMITS.items():
                limits.setdefault(metric, dict(limit))
