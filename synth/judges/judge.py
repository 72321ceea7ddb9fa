"""The protocol of judges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from safemerge.errors import BadInput
from synth.probes.verdict import Verdict


@runtime_checkable
class Judge(Protocol):
    """Labels replies; sees the prompts too, because guard models need them."""

    def judge(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        """One verdict for each (prompt, answer), in order.

        Raises:
            BadInput: if there are not as many prompts as answers.
        """

    def fingerprint(self) -> str:
        """Everything that decides its verdicts: kind, prompt format and the guard's weights."""


def check_counts(prompts: Sequence[str], answers: Sequence[str]) -> None:
    """Refuse lists of different lengths."""
    if len(prompts) != len(answers):
        raise BadInput(f"{len(prompts)} prompts came with {len(answers)} answers to judge")
