"""In words: how probes without a check are graded, and replies that could not be graded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from synth.checkers.expected import expected_check
from synth.grading.grading import check_of, needs_grader
from synth.probes.probe import AXES, Probe


def check_gradable(probes: Iterable[Probe], *, graded: bool) -> None:
    """Refuse probes that only a grader can grade, where there is none, before any work."""
    for probe in probes:
        check_of(probe, graded=graded)


def unchecked_notes(probes: Sequence[Probe], *, graded: bool) -> list[str]:
    """Sentences on how probes that carry no check are graded; none where all carry one.

    Args:
        graded: there is a grader.
    """
    bare = [probe for probe in probes if probe.check is None]
    if not bare:
        return []
    parts = []
    for axis in AXES:
        kinds = Counter(check_of(p, graded=graded).kind for p in bare if p.axis == axis)
        if kinds:
            each = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
            parts.append(f"{kinds.total()} {axis} ({each})")
    notes = [
        f"{len(bare)} of {len(probes)} probes carry no check and are graded as their axis and "
        f"answer suggest: {'; '.join(parts)}"
    ]
    long = [
        probe
        for probe in bare
        if not graded
        and needs_grader(probe)
        and expected_check(probe.axis, probe.prompt, probe.answer).kind == "judged"
    ]
    if long:
        notes.append(
            f"{len(long)} of them have a long answer and no grader to read it: a reply must hold "
            "the answer word for word, which few will; name a grader (probes.grader in a config, "
            "--grader for eval) or give them a check"
        )
    return notes


def untold_note(untold: Iterable[bool]) -> str | None:
    """A sentence on replies that could not be graded; None where all could."""
    flags = list(untold)
    count = sum(flags)
    if not count:
        return None
    return (
        f"{count} of {len(flags)} replies could not be graded and count as wrong: a pattern took "
        "too long on them, or the grader's own reply could not be read"
    )
