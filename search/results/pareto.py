"""Candidates and their Pareto front: domination, hypervolume, and picking one point.

Only feasible candidates form the front. Where none is feasible, it is the one candidate with the
smallest violation. The hypervolume is that of Zitzler and Thiele (1998), computed by moocore.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import moocore
import numpy as np

from safemerge.errors import BadInput, near_names
from safemerge.recipe import Recipe
from safemerge.score import Scores
from search.metrics import LOWER_IS_BETTER, Directions, gains


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finished trial."""

    number: int
    # or what reads it: a run of thousands of trials is opened without them
    stored: Recipe | Callable[[], Recipe] = field(compare=False)
    scores: Scores  # on the search probes
    violation: float  # sum of the positive violations of the limits; 0 is feasible
    estimates: Scores = field(default_factory=dict)  # rates in place of likelihoods; see `shown`

    @property
    def recipe(self) -> Recipe:
        return self.stored if isinstance(self.stored, Recipe) else self.stored()

    @property
    def feasible(self) -> bool:
        return self.violation <= 0.0

    @property
    def shown(self) -> Scores:
        """The scores as limits and people read them: rates where the run has a map, else as is."""
        return self.estimates or self.scores


@dataclass(frozen=True, slots=True)
class Front:
    """Non-dominated candidates."""

    points: tuple[Candidate, ...]  # sorted by the first objective, best first
    directions: Directions

    @classmethod
    def of(cls, candidates: Sequence[Candidate], directions: Directions) -> Front:
        feasible = [candidate for candidate in candidates if candidate.feasible]
        if not feasible and candidates:
            return cls((min(candidates, key=lambda c: (c.violation, c.number)),), directions)
        # The earliest of equals stays.
        points = {gains(c.scores, directions): c for c in reversed(feasible)}
        on_front = moocore.is_nondominated(np.array(list(points)), maximise=True) if points else ()
        front = [point for point, kept in zip(points, on_front, strict=True) if kept]
        return cls(tuple(points[point] for point in sorted(front, reverse=True)), directions)

    def joined_by(self, more: Sequence[Candidate]) -> Front:
        """The front with more candidates sorted in, which it may dominate."""
        points = (*self.points, *more)
        ordered = sorted(points, key=lambda c: gains(c.scores, self.directions), reverse=True)
        return Front(tuple(ordered), self.directions)

    def with_near(self, candidates: Sequence[Candidate], most: int) -> Front:
        """At most `most` points: the front, then the nearest that cannot be told from it.

        A candidate is near when it is feasible and no point of the front is better in every
        objective by more than one standard error of the candidate. Where none is feasible, those
        with the smallest violations are near. Equal scores count once.
        """
        near: list[tuple[float, int, Candidate]] = []
        seen = [point.scores for point in self.points]
        none_feasible = not any(point.feasible for point in self.points)
        for candidate in candidates:
            if candidate.scores in seen or not (candidate.feasible or none_feasible):
                continue
            seen.append(candidate.scores)
            behind = max(_behind(candidate, point, self.directions) for point in self.points)
            if none_feasible:
                near.append((candidate.violation, candidate.number, candidate))
            elif behind <= 1.0:
                near.append((behind, candidate.number, candidate))
        points = thinned(self.points, most)
        closest = [candidate for _, _, candidate in sorted(near, key=lambda entry: entry[:2])]
        return Front(points, self.directions).joined_by(closest[: most - len(points)])

    def hypervolume(self) -> float:
        """Volume dominated by the feasible points, in [0, 1], with reference point 0.

        A minimised objective counts as 1 - value.
        """
        feasible = [gains(p.scores, self.directions) for p in self.points if p.feasible]
        return hypervolume(feasible, self.directions)

    def minimax_regret(self, among: Collection[int] | None = None) -> Candidate:
        """The balanced point: its largest regret over the objectives is the smallest (Savage 1951).

        The regret in an objective is the distance to the front's best value, not scaled by the
        front's extent. `among` are the trial numbers to choose from; None allows every point.
        """
        rows = {point.number: gains(point.scores, self.directions) for point in self.points}
        best = [max(column) for column in zip(*rows.values(), strict=True)]

        def regret(point: Candidate) -> tuple[float, int]:
            pairs = zip(best, rows[point.number], strict=True)
            return max(high - value for high, value in pairs), point.number

        return min((p for p in self.points if among is None or p.number in among), key=regret)

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
            BadInput: where no point is within the bounds, or a metric was not measured.
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
            wanted = [f"{m} at least {bound:g}" for m, bound in lower.items()]
            wanted += [f"{m} at most {bound:g}" for m, bound in upper.items()]
            raise BadInput(
                f"no point of the front ({len(self.points)} in all) has {', '.join(wanted)}; the "
                "best that each can be alone is "
                + ", ".join(f"{m} {value:.3f}" for m, value in reach.items())
            )
        if maximise is None:
            return Front(within, self.directions).minimax_regret()
        direction = {maximise: maximise not in LOWER_IS_BETTER}
        return max(within, key=lambda point: gains(point.scores, direction))


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


def hypervolume(points: Sequence[Sequence[float]], directions: Directions) -> float:
    """`Front.hypervolume` of the gains of points, (n_points, n_objectives)."""
    if not points:
        return 0.0
    shares = np.asarray(points) + [0.0 if larger else 1.0 for larger in directions.values()]
    if len(directions) == 1:
        return float(shares.max())
    return float(moocore.hypervolume(-shares, ref=np.zeros(len(directions))))


def _behind(candidate: Candidate, point: Candidate, directions: Directions) -> float:
    """The smallest lead of a point over a candidate, in the candidate's standard errors."""
    behind, ahead = gains(candidate.shown, directions), gains(point.shown, directions)
    errors = [candidate.shown[metric].stderr for metric in directions]
    return min((a - b) / error for a, b, error in zip(ahead, behind, errors, strict=True))
