"""start.json: what a search took over from another run, kept so that the other run may go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

START = "start.json"


@dataclass(frozen=True, slots=True)
class Start:
    """What a search takes over from another run.

    Args:
        points: of this search's space, `{dimension: value}`; that of the pick first.
        evaluations: what the other run was charged, and those that it started from.
        seen: digests of the prompts of all their search and validation probes.
    """

    points: list[dict[str, Any]]
    evaluations: int
    seen: list[str]
