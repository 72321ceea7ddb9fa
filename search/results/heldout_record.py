"""front/heldout.json: the held-out measurement of a run."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from safemerge.score import Score
from search.runs.rundir import RunDir
from search.scoring.generalization_gap import Gap
from search.scoring.paired_differences import Difference
from synth.judges.agreement import Agreement

_FILE = "front/heldout.json"


class HeldOut(BaseModel):
    """The held-out measurement of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pick: int  # its trial number
    judge: str  # who read the replies
    # of that judge with the run's own; None where it is the same one
    agreement: Agreement | None = None
    # `{row name: rates of replies}` by the judge, the pick as the last one, "search"
    rows: dict[str, dict[str, Score]]
    front: dict[int, dict[str, Score]]  # `{trial: rates}` of the front's points that were measured
    # `{trial: {axis, or "mean": gap}}` of the same points, in likelihood
    gap: dict[int, dict[str, Gap]]
    # `{trial: {axis: difference}}` of the same points, without the pick
    against_pick: dict[int, dict[str, Difference]]
    # `{row: mark}` of the searches, baselines among them, whose pick is outside their limits
    outside: dict[str, str] = {}
    statements: tuple[str, ...] = ()  # the same in sentences

    @classmethod
    def load(cls, home: RunDir) -> HeldOut | None:
        """The measurement of a run, None without one; a RunError where it is unreadable."""
        remedy = "`safemerge search` with the run's config measures it again"
        return home.load(_FILE, cls, remedy=remedy)

    def save(self, home: RunDir) -> None:
        home.write(_FILE, self)
