"""Stop a judge that cannot be read, before its silence is taken for a measurement."""

from __future__ import annotations

from collections.abc import Sequence

from safemerge.errors import JudgeError
from synth.judges.judge import Judge
from synth.probes.verdict import Verdict

_FEW = 20  # replies before which a share says little


class LimitedJudge:
    """A judge whose UNREADABLE verdicts may not exceed a share of all but the degenerate ones.

    Degenerate answers are not counted, because no model was asked about them: a merge that mostly
    babbles would hide a guard that says nothing.

    Args:
        judge: asked as it is.
        name: of the judge, for the message.
        most: largest share of unreadable verdicts, in [0, 1]; below 20 it is taken of 20.
    """

    def __init__(self, judge: Judge, name: str, most: float) -> None:
        self._judge, self._name, self._most = judge, name, most
        self._asked = self._unreadable = 0

    def judge(self, prompts: Sequence[str], answers: Sequence[str]) -> list[Verdict]:
        """The judge's verdicts.

        Raises:
            JudgeError: where too many so far are unreadable.
        """
        verdicts = self._judge.judge(prompts, answers)
        self._asked += len(verdicts) - verdicts.count(Verdict.DEGENERATE)
        self._unreadable += verdicts.count(Verdict.UNREADABLE)
        if self._unreadable / max(self._asked, _FEW) > self._most:
            raise JudgeError(
                f"the judge {self._name!r} could not be read in {self._unreadable} of "
                f"{self._asked} verdicts, more than the share {self._most:g} that is allowed; "
                "check that its model is the one meant for it, choose another judge, or raise "
                "probes.unreadable_frac in the config"
            )
        return verdicts

    def fingerprint(self) -> str:
        """That of the judge; the limit changes no verdict."""
        return self._judge.fingerprint()
