"""The gate of difficulty: what everybody or nobody can answer tells no two merges apart."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from math import floor

from synth.gates.filtered import beyond


class Level(StrEnum):
    """How hard a question is: the base always answers it, or nobody ever does, or neither."""

    EASY = "easy"
    FAIR = "fair"
    HARD = "hard"


def too_many(levels: Sequence[Level], *, easy: float, hard: float, of: int) -> tuple[bool, ...]:
    """Which questions are beyond the share of their level, in the order given.

    `easy` and `hard` are the largest shares, in [0, 1], of a whole of size `of`.
    """
    room = {Level.EASY: floor(easy * of), Level.HARD: floor(hard * of), Level.FAIR: len(levels)}
    return beyond(levels, room.__getitem__)
