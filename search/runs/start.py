"""start.json: what a search took over from another run, kept so that the other run may go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

START = "start.json"


@dataclass(frozen=True, slots=True)
class Start:
    # of this search's space, `{dimension: value}`; that of the pick first
    points: list[dict[str, Any]]
    evaluations: int  # what the other run was charged, and those that it started from
    seen: list[str]  # digests of the prompts of all their search and validation probes
