"""What a stage of probe writing has so far: its probes, and what became of every other question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from synth.gates.filtered import Filtered
from synth.probes.probe import Axis, Probe
from synth.writing.questions import Question


@dataclass(frozen=True, slots=True)
class Rejected:
    """A question that did not become a probe, and why."""

    axis: Axis
    category: str
    prompt: str
    reason: str


@dataclass(slots=True)
class Outcome:
    """What one stage has so far: probes in the order they were kept, rejects, questions written."""

    probes: list[Probe] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    written: dict[Axis, int] = field(default_factory=dict)
    # axis -> questions that a reviewer read, and how many of them passed
    reviewed: dict[Axis, tuple[int, int]] = field(default_factory=dict)
    given_up: set[Axis] = field(default_factory=set)  # that the writer cannot write

    def reject(self, question: Question | Probe, reason: str) -> None:
        """Record that a question was dropped."""
        dropped = Rejected(question.axis, question.category, question.prompt, reason)
        self.rejected.append(dropped)

    def sifted(self, gate: Filtered[Question]) -> list[Question]:
        """What a gate keeps; what it drops is recorded."""
        for dropped in gate.dropped:
            self.reject(dropped.item, dropped.reason)
        return list(gate.kept)

    def drop(self, probes: Sequence[Probe], reason: str) -> None:
        """Turn kept probes of this stage into rejects."""
        gone = {probe.id for probe in probes}
        self.probes = [probe for probe in self.probes if probe.id not in gone]
        for probe in probes:
            self.reject(probe, reason)

    def cut(self, axis: Axis, size: int) -> None:
        """Drop good probes of an axis beyond the first `size`."""
        self.drop(self.of(axis)[size:], "surplus")

    def give_up(self, axis: Axis) -> None:
        """Keep nothing of an axis, because its writer cannot write it."""
        self.given_up.add(axis)
        self.drop(self.of(axis), "writer unfit")

    @property
    def prompts(self) -> list[str]:
        """Every prompt so far, kept or rejected: none is looked at twice, a twin is no copy."""
        rejected = [rejected.prompt for rejected in self.rejected if rejected.prompt]
        return [*(probe.prompt for probe in self.probes), *rejected]

    def of(self, axis: Axis) -> list[Probe]:
        """Probes of the axis so far."""
        return [probe for probe in self.probes if probe.axis == axis]
