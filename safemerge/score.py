"""Score: one measured number with its standard error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Score:
    """A measured share or mean likelihood: value in [0, 1], standard error, number of probes."""

    value: float
    stderr: float
    n: int


Scores = Mapping[str, Score]
"""`{metric: score}`."""
