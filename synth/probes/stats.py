"""What became of every question of a probe file: kept, or rejected and why, with its categories."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pydantic import BaseModel

from synth.probes.jsonl import read_records
from synth.probes.origin import UNREVIEWED
from synth.probes.probe import AXES, Axis, ProbeSet


class AxisStats(BaseModel, frozen=True):
    """The questions of one axis."""

    axis: Axis  # name
    kept: int  # probes in the file
    rejected: dict[str, int]  # reason -> questions that were dropped for it, most frequent first
    categories: dict[str, int]  # category -> probes, most frequent first
    unreviewed: int = 0  # probes that a model wrote and no reviewer read

    @property
    def written(self) -> int:
        """All questions."""
        return self.kept + sum(self.rejected.values())


class _Rejected(BaseModel):
    axis: Axis
    reason: str


def rejected_path(probes: Path) -> Path:
    """The file beside a probe file that holds what was rejected."""
    return probes.with_name(probes.name + ".rejected.jsonl")


def read_stats(path: Path) -> tuple[AxisStats, ...]:
    """The axes of a probe file, and of the file of rejects beside it, that have any question.

    Where a writer failed there are rejects and no probe file.
    """
    beside = rejected_path(path)
    unwritten = beside.exists() and not path.exists()
    probes = ProbeSet(()) if unwritten else ProbeSet.from_jsonl(path)
    reasons: dict[Axis, Counter[str]] = {axis: Counter() for axis in AXES}
    for rejected in read_records(beside, _Rejected) if beside.exists() else ():
        reasons[rejected.axis][rejected.reason] += 1
    kept = {axis: Counter(probe.category for probe in probes.axis(axis)) for axis in AXES}
    unread = Counter(
        probe.axis for probe in probes if probe.origin and probe.origin.reviewer == UNREVIEWED
    )
    return tuple(
        AxisStats(
            axis=axis,
            kept=kept[axis].total(),
            rejected=dict(reasons[axis].most_common()),
            categories=dict(kept[axis].most_common()),
            unreviewed=unread[axis],
        )
        for axis in AXES
        if kept[axis] or reasons[axis]
    )
