"""Which models differ on which axes, judged by their answers to the same probes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from search.scoring.mcnemar import LEVEL, compare_shares
from synth.probes.probe import AXES

if TYPE_CHECKING:
    from search.scoring.generation import Answer

_Row = TypeVar("_Row", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better one model is than another on one axis."""

    value: float  # share of correct answers, minus the other's, in [-1, 1]
    low: float  # of the 95 % interval of this comparison by itself, not of many together
    high: float
    apart: bool  # told apart, over all comparisons of a table together
    p: float | None = None  # of this comparison by itself; None in records of earlier versions


def paired_differences(
    answers: Mapping[_Row, Sequence[Answer]], others: Sequence[Answer]
) -> dict[_Row, dict[str, Difference]]:
    """`{row: {axis: difference}}` of models against one other, all asked the same probes.

    Apart are those that Holm's procedure (1979) leaves: with probability 0.95 none of the whole
    table is called apart that is not. A ValueError where the probes differ.
    """
    table: dict[_Row, dict[str, Difference]] = {}
    for row, given in answers.items():
        if [answer.id for answer in given] != [answer.id for answer in others]:
            raise ValueError("the answers of the two models are not to the same probes")
        pairs = list(zip(given, others, strict=True))
        table[row] = {
            axis: _difference(flags)
            for axis in AXES
            if (flags := [(a.correct, b.correct) for a, b in pairs if a.axis == axis])
        }
    return _with_apart(table)


def _difference(pairs: Sequence[tuple[bool, bool]]) -> Difference:
    gained, lost = (pairs.count(pair) for pair in ((True, False), (False, True)))
    found = compare_shares(gained, lost, len(pairs))
    value = (gained - lost) / len(pairs)
    return Difference(value, found.low, found.high, apart=False, p=found.p)


def _with_apart(
    table: Mapping[_Row, Mapping[str, Difference]],
) -> dict[_Row, dict[str, Difference]]:
    ps = [difference.p for axes in table.values() for difference in axes.values()]
    known = sorted(p for p in ps if p is not None)
    last = -1.0  # the largest p that is still called apart
    for rank, p in enumerate(known):
        if p > (1.0 - LEVEL) / (len(known) - rank):
            break
        last = p
    return {
        row: {
            axis: replace(one, apart=one.p is not None and one.p <= last)
            for axis, one in axes.items()
        }
        for row, axes in table.items()
    }
