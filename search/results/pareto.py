"""Candidates and their Pareto front: domination, hypervolume, and picking one point.

Only feasible candidates form the front. Where none is feasible, it is the one candidate with the
smallest violation. The hypervolume is that of Zitzler and Thiele (1998), computed by moocore.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from safemerge.errors import BadInput, near_names
from safemerge.recipe import Recipe
from safemerge.score import Scores
from search.metrics import LOWER_IS_BETTER, Directions, signs


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finished trial."""

    number: int
    recipe: Recipe
    scores: Scores  # on the search probes
    violation: float  # sum of the positive violations of the limits; 0 is feasible

    @property
    def feasible(self) -> bool:
        """Within every limit."""
        return self.violation <= 0.0


@dataclass(frozen=True, slots=True)
class Front:
    """Non-dominated candidates."""

    points: tuple[Candidate, ...]  # sorted by the first objective, best first
    directions: Directions

    @classmethod
    def of(cls, candidates: Sequence[Candidate], directions: Directions) -> Front:
        """The front of some candidates."""
        feasible = [candidate for candidate in candidates if candidate.feasible]
        if not feasible and candidates:
            return cls((min(candidates, key=lambda c: (c.violation, c.number)),), directions)
        points = [(candidate, _gains(candidate, directions)) for candidate in feasible]
        front: dict[tuple[float, ...], Candidate] = {}
        for candidate, gains in points:
            if not any(_dominates(other, gains) for _, other in points):
                front.setdefault(gains, candidate)  # the earliest of equals
        ordered = sorted(front.items(), key=lambda item: item[0], reverse=True)
        return cls(tuple(candidate for _, candidate in ordered), directions)

    def joined_by(self, more: Sequence[Candidate]) -> Front:
        """The front with more candidates sorted in, which it may dominate."""
        points = sorted(
            (*self.points, *more), key=lambda c: _gains(c, self.directions), reverse=True
        )
        return Front(tuple(points), self.directions)

    def with_near(self, candidates: Sequence[Candidate], most: int) -> Front:
        """At most `most` points: the front, then candidates that cannot be told from it.

        A candidate is near when it is feasible and no point of the front is better in every
        objective by more than one standard error of the candidate. The nearest come first. Of
        candidates with equal scores only one is taken.
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
        closest = [candidate for _, _, candidate in sorted(near, key=lambda entry: entry[:2])]
        return Front(points, self.directions).joined_by(closest[: most - len(points)])

    def hypervolume(self) -> float:
        """Volume dominated by the feasible points, reference point 0 in every objective.

        Objectives are shares in [0, 1]; a minimised one counts as 1 - value. The result is in
        [0, 1].
        """
        gains = [_gains(point, self.directions) for point in self.points if point.feasible]
        return hypervolume(gains, self.directions)

    def minimax_regret(self, among: Collection[int] | None = None) -> Candidate:
        """The balanced point: its largest regret over the objectives is the smallest (Savage 1951).

        The regret in an objective is the distance to the front's best value, in the objective's
        own units. It is not scaled by the front's extent: where all points are nearly perfect in
        one objective, a tenth of a point there would outweigh ten points in the other.
        `among` are the trial numbers to choose from; None allows every point.
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
            maximise: metric to be best in; None takes the minimax regret of what is left.

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
            return Front(within, self.directions).minimax_regret()
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


def hypervolume(gains: Sequence[Sequence[float]], directions: Directions) -> float:
    """`Front.hypervolume` of gains (n_points, n_objectives): values times `signs(directions)`."""
    if not gains:
        return 0.0
    shares = np.asarray(gains) + [0.0 if larger else 1.0 for larger in directions.values()]
    if len(directions) == 1:
        return float(shares.max())
    return float(moocore.hypervolume(-shares, ref=np.zeros(len(directions))))


def _gains(candidate: Candidate, directions: Directions) -> tuple[float, ...]:
    """Objective values with the sign that makes larger better."""
    values = (candidate.scores[metric].value for metric in directions)
    return tuple(value * sign for value, sign in zip(values, signs(directions), strict=True))


def _dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x >= y for x, y in zip(a, b, strict=True))


def _behind(candidate: Candidate, point: Candidate, directions: Directions) -> float:
    """The smallest lead of a point over a candidate, in the candidate's standard errors."""
    pairs = zip(_gains(candidate, directions), _gains(point, directions), directions, strict=True)
    return min(
        (ahead - behind) / max(candidate.scores[metric].stderr, 1e-12)
        for behind, ahead, metric in pairs
    )
