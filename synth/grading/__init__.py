"""Grading: is a reply to a probe right? `grade_replies` is the one place that says so.

Writing, validation, the held-out table and `eval` all go through it. Text alone decides where the
probe's check can (`synth.checkers`); else a judge or a grader, a chat model, is asked.

grading   every reply of a model to its probes
grader    a chat model that says whether an answer is right
notes     how probes without a check are graded, and what could not be graded, in words
"""

from synth.grading.grader import Grader, make_grader
from synth.grading.grading import (
    GRADING,
    JUDGED,
    Grade,
    check_of,
    grade_replies,
    read_verdicts,
    with_check,
)
from synth.grading.notes import check_gradable, unchecked_notes, untold_note

__all__ = [
    "GRADING",
    "JUDGED",
    "Grade",
    "Grader",
    "check_gradable",
    "check_of",
    "grade_replies",
    "make_grader",
    "read_verdicts",
    "unchecked_notes",
    "untold_note",
    "with_check",
]
