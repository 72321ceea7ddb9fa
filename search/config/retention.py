"""The limits that a search has unless its file says otherwise: what no probe asks must hold too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The divergence is for models that have lost their language: adapters that answer well may be at
# half of this, and so may one that refuses too much, which replies show (docs/probes.md#retention).
DEFAULT_LIMITS: dict[str, dict[str, Any]] = {
    "divergence": {"at_most": 1.0},
    "general_refusal": {"at_most": "base + 0.05"},
    "general_degenerate": {"at_most": "base + 0.05"},
}


def with_retention(record: Mapping[str, Any], *, of_run: bool) -> dict[str, Any]:
    """A parsed file with the default limits where it names none of its own.

    Args:
        record: of the whole file, perhaps not valid.
        of_run: a run's own record, which has its limits, and no retention before it was known.
    """
    filled, probes, limits = dict(record), record.get("probes"), record.get("limits", {})
    if not isinstance(probes, Mapping) or not isinstance(limits, Mapping):
        return filled  # which is refused elsewhere
    if of_run:
        filled["probes"] = {"retention": "off", **probes}
    elif probes.get("retention") != "off":
        filled["limits"] = {**DEFAULT_LIMITS, **limits}
    return filled
