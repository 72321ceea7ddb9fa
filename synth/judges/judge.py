"""The protocols of judges: of replies, and of requests alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from safemerge.errors import BadInput
from synth.probes.verdict import Verdict


@runtime_checkable
class Judge(Protocol):
    """Labels replies; sees the prompts too, because guard models need them."""

    def judge(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        """One verdict for each (prompt, answer), in order; what a reply thinks is passed over.

        Raises:
            BadInput: if there are not as many prompts as answers.
        """

    def fingerprint(self) -> str:
        """Everything that decides its verdicts: kind, prompt format and the guard's weights."""


@runtime_checkable
class HarmJudge(Protocol):
    """Tells from a request alone whether it is harmful."""

    def harmful(self, prompts: Sequence[str]) -> list[bool | None]:
        """Whether each prompt is harmful, in order; None where that could not be read."""

    def fingerprint(self) -> str:
        """Everything that decides what it says."""


def check_counts(prompts: Sequence[str], answers: Sequence[str]) -> None:
    """Refuse lists of different lengths."""
    if len(prompts) != len(answers):
        raise BadInput(f"{len(prompts)} prompts came with {len(answers)} answers to judge")
