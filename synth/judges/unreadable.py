"""How often a judge that asks a model may not be understood, before the work is stopped."""

from __future__ import annotations

from safemerge.errors import JudgeError

_FEW = 20  # replies before which a share says little


class Unreadable:
    """A count of what a judge said, held to a share of unreadable answers in [0, 1]."""

    def __init__(self, kind: str, most: float) -> None:
        self._kind, self._most = kind, most
        self._asked = self._unreadable = 0

    def count(self, unreadable: int, asked: int) -> None:
        """Add some answers; a JudgeError where too many are unreadable by now."""
        self._asked += asked
        self._unreadable += unreadable
        if self._unreadable / max(self._asked, _FEW) > self._most:
            raise JudgeError(
                f"the judge {self._kind!r} could not be read in {self._unreadable} of "
                f"{self._asked} verdicts, more than the share {self._most:g} that is allowed; "
                "check that its model is the one meant for it, choose another judge, or raise "
                "probes.unreadable_frac in the config"
            )
