"""When a writer cannot write an axis: hardly anything that it writes is what was asked for.

Such a stage ends early and keeps nothing. Among much junk even a reviewer that is seldom wrong lets
through more junk than there are good questions.
"""

from __future__ import annotations

from collections import Counter

from synth.judges.review_exam import ReviewExam
from synth.judges.reviewer import NOT, UNREADABLE
from synth.probes.probe import Axis
from synth.writing.outcome import Outcome

# Reasons that speak against the writer; a repeat, a leak or an easy question does not.
JUNK = frozenset(
    {"broken question", "writer refused", "copied from the request", "unfinished question"}
    | {"no question", "not self-contained", "too short", "too long"}
    | {"on another axis", UNREADABLE, *NOT.values()}
)
LEAST_SOUND = 0.2  # share of an axis's written questions below which its writer has failed
_MOST_JUNK = 0.05  # share of what is kept
_ENOUGH = 48  # questions before which a share says little


def junk(outcome: Outcome, axis: Axis) -> Counter[str]:
    """`{reason: questions of the axis that were dropped for it}`, of the reasons in `JUNK`."""
    return Counter(r.reason for r in outcome.rejected if r.axis == axis and r.reason in JUNK)


def cannot_write(outcome: Outcome, axis: Axis, exam: ReviewExam | None) -> bool:
    """True if of at least 48 questions too few are sound.

    Less than the share `LEAST_SOUND`; or so few that, of a reviewer that errs as in its
    examination, more than the share `_MOST_JUNK` of what it lets pass would be junk.
    """
    written = outcome.written.get(axis, 0)
    reviewed, passed = outcome.reviewed.get(axis, (0, 0))
    if written < _ENOUGH:
        return False
    if written - junk(outcome, axis).total() < LEAST_SOUND * written:
        return True
    return exam is not None and exam.junk_among(passed, reviewed) > _MOST_JUNK
