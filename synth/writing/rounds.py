"""How often to ask for how many questions, until there are enough or a writer has run dry."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING

from synth.probes.probe import Axis

if TYPE_CHECKING:
    from synth.writing.context import Outcome, Workshop

_IDLE_ROUNDS = 3


class Rounds:
    """Iterates over (round number, how many questions to write)."""

    def __init__(
        self, shop: Workshop, out: Outcome, wanted: Mapping[Axis, int], lead: Axis
    ) -> None:
        self._shop, self._out, self._wanted, self._lead = shop, out, wanted, lead
        self._turn, self._idle, self._before = -1, 0, 0

    def __iter__(self) -> Rounds:
        return self

    def __next__(self) -> tuple[int, int]:
        for axis, want in self._wanted.items():
            self._shop.progress(axis, min(want, self._out.count(axis)), want)
        kept = len(self._out.probes)
        self._idle = self._idle + 1 if self._turn >= 0 and kept == self._before else 0
        self._before = kept
        self._turn += 1
        missing = {a: want - self._out.count(a) for a, want in self._wanted.items()}
        # A writer that only repeats itself will not get better.
        exhausted = self._turn >= self._shop.config.rounds or self._idle >= _IDLE_ROUNDS
        if max(missing.values()) <= 0 or exhausted:
            raise StopIteration
        axis = max(missing, key=lambda one: missing[one])
        written = self._out.written.get(self._lead, 0)
        rate = self._out.count(axis) / written if written else 0.7
        # Enough to fill what is missing at the rate so far, but no more than four times the goal.
        size = min(4 * self._wanted[axis], ceil(1.1 * missing[axis] / max(rate, 0.05)))
        return self._turn, max(size, 8)
