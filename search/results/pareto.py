"""Candidates and their Pareto front: domination, hypervolume, and picking one point.

Feasible candidates alone form the front. Where none is feasible the front is the candidate with
the least violation, and says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from safemerge.errors import BadInput, near_names
from safemerge.recipe import Recipe
from safemerge.score import Scores
from search.metrics import LOWER_IS_BETTER


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finished trial.

    Args:
        number: trial number.
        recipe: what was merged.
        scores: on the search probes.
        violation: sum of the positive violations of the limits; 0 is feasible.
    """

    number: int
    recipe: Recipe
    scores: Scores
    violation: float

    @property
    def feasible(self) -> bool:
        """Within every limit."""
        return self.violation <= 0.0


@dataclass(frozen=True, slots=True)
class Front:
    """Non-dominated candidates.

    Args:
        points: sorted by the first objective, best first.
        directions: `{objective: maximised}` in canonical order.
    """

    points: tuple[Candidate, ...]
    directions: Mapping[str, bool]

    @classmethod
    def of(cls, candidates: Sequence[Candidate], directions: Mapping[str, bool]) -> Front:
        """The front of some candidates."""
        feasible = [candidate for candidate in candidates if candidate.feasible]
        if not feasible and candidates:
            return cls((min(candidates, key=lambda c: (c.violation, c.number)),), directions)
        points = [(candidate, _gains(candidate, directions)) for candidate in feasible]
        kept: dict[tuple[float, ...], Candidate] = {}
        for candidate, gains in points:
            if not any(_dominates(other, gains) for _, other in points):
                kept.setdefault(gains, candidate)  # the earliest of equals
        ordered = sorted(kept.items(), key=lambda item: item[0], reverse=True)
        return cls(tuple(candidate for _, candidate in ordered), directions)

    def joined_by(self, more: Sequence[Candidate]) -> Front:
        """The same with more candidates, which it may dominate, sorted in."""
        points = sorted(
            (*self.points, *more), key=lambda c: _gains(c, self.directions), reverse=True
        )
        return Front(tuple(points), self.directions)

    def with_near(self, candidates: Sequence[Candidate], most: int) -> Front:
        """The same, at most `most` points of it, joined by those that cannot be told from it.

        Near is a feasible candidate that no point of the front is ahead of by more than one
        standard error, the candidate's own, in every objective; those that come first are behind
        by least. Of candidates with equal scores only one is taken.
        """
        near: list[tuple[float, int, Candidate]] = []
        seen = [point.scores for point in self.points]
        for candidate in candidates:
            if candidate.feasible and candidate.scores not in seen:
                seen.append(candidate.scores)
                behind = max(_behind(candidate, point, self.directions) for point in self.points)
                if behind <= 1.0:
                    near.append((behind, candidate.number, candidate))
        points = thinned(self.points, most)
        closest = [candidate for _, _, candidate in sorted(near, key=lambda one: one[:2])]
        return Front(points, self.directions).joined_by(closest[: most - len(points)])

    def hypervolume(self) -> float:
        """Area (volume) dominated by the feasible points, reference point 0 in every objective.

        Objectives are shares in [0, 1], a minimised one counted as 1 - value, so the result lies
        in [0, 1].
        """
        gains = [_gains(point, self.directions) for point in self.points if point.feasible]
        return hypervolume(gains, self.directions)

    def knee(self, among: Collection[int] | None = None) -> Candidate:
        """The balanced point: the least worst regret, in the objectives' own units.

        Not scaled by the front's extent: where every point is nearly perfect in one objective, a
        gain of a tenth of a point there would outweigh ten points in the other.

        Args:
            among: trial numbers to choose from, at least one of the front's; None allows every
                point, of which there must be one.
        """
        gains = [_gains(point, self.directions) for point in self.points]
        best = [max(column) for column in zip(*gains, strict=True)]
        allowed = [
            (max(high - value for value, high in zip(row, best, strict=True)), point.number, point)
            for point, row in zip(self.points, gains, strict=True)
            if among is None or point.number in among
        ]
        return min(allowed, key=lambda entry: entry[:2])[2]

    def pick(
        self,
        *,
        at_least: Mapping[str, float] | None = None,
        at_most: Mapping[str, float] | None = None,
        maximise: str | None = None,
    ) -> Candidate:
        """The best point within bounds.

        Args:
            at_least: `{metric: lowest value}`.
            at_most: `{metric: highest value}`.
            maximise: metric to be best in; None takes the knee of what is left.

        Raises:
            BadInput: where no point is within the bounds, or there is none at all, or a metric was
                not measured.
        """
        if not self.points:
            raise BadInput("the front has no point to pick: no trial has finished yet")
        lower, upper = dict(at_least or {}), dict(at_most or {})
        measured = self.points[0].scores
        for metric in [*lower, *upper, *([maximise] if maximise else [])]:
            if metric not in measured:
                raise BadInput(
                    f"metric {metric!r} was not measured; {near_names(metric, measured)}"
                )
        within = tuple(
            point
            for point in self.points
            if all(point.scores[m].value >= bound for m, bound in lower.items())
            and all(point.scores[m].value <= bound for m, bound in upper.items())
        )
        if not within:
            reach = {m: max(p.scores[m].value for p in self.points) for m in lower}
            reach.update({m: min(p.scores[m].value for p in self.points) for m in upper})
            raise BadInput(
                f"none of the {len(self.points)} front points is within {lower | upper}; "
                f"the best each can be alone is { {m: round(v, 3) for m, v in reach.items()} }"
            )
        if maximise is None:
            return Front(within, self.directions).knee()
        sign = -1.0 if maximise in LOWER_IS_BETTER else 1.0
        return max(within, key=lambda point: sign * point.scores[maximise].value)


def thinned(
    points: tuple[Candidate, ...], most: int, kept: Candidate | None = None
) -> tuple[Candidate, ...]:
    """At most `most` of some points, evenly spread, one of them always kept."""
    if len(points) <= most:
        return points
    spread = most if kept is None else most - 1
    step = (len(points) - 1) / max(spread - 1, 1)
    chosen = {round(i * step) for i in range(spread)}
    chosen |= {i for i, point in enumerate(points) if point == kept}
    return tuple(points[i] for i in sorted(chosen))


def hypervolume(gains: Sequence[tuple[float, ...]], directions: Mapping[str, bool]) -> float:
    """`Front.hypervolume` of (n_points, n_objectives) with the sign that makes larger better."""
    import moocore
    import numpy as np

    if not gains:
        return 0.0
    unit = [
        [g if up else 1.0 + g for g, up in zip(row, directions.values(), strict=True)]
        for row in gains
    ]
    if len(directions) == 1:
        return max(row[0] for row in unit)
    negated = -np.asarray(unit)
    return float(moocore.hypervolume(negated, ref=np.zeros(negated.shape[1])))


def _gains(candidate: Candidate, directions: Mapping[str, bool]) -> tuple[float, ...]:
    """Objective values with the sign that makes larger better."""
    return tuple(
        candidate.scores[metric].value * (1.0 if up else -1.0) for metric, up in directions.items()
    )


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def _behind(candidate: Candidate, point: Candidate, directions: Mapping[str, bool]) -> float:
    """How far a point is ahead of a candidate in every objective, in the candidate's errors."""
    pairs = zip(_gains(candidate, directions), _gains(point, directions), directions, strict=True)
    return min(
        (ahead - own) / max(candidate.scores[metric].stderr, 1e-12) for own, ahead, metric in pairs
    )
