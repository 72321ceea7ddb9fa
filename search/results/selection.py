"""The pick, by the five steps of docs/search.md#the-pick, and front/search.json.

Steps 2 and 3 need generation and may be turned off; they are skipped for a fitness, which is made
of likelihoods. Step 4 needs validation probes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from safemerge.errors import SafemergeError
from safemerge.score import Score, Scores
from search.metrics import Directions, Limit, Limits, gains, probe_axis, signs, total_violation
from search.results.answers import ValidationScores, answer
from search.results.diagnostics import failed
from search.results.general_answers import validation_asker, with_general
from search.results.pareto import Candidate, Front
from search.results.run import FRONT, FrontPoint, FrontRecord, Run
from search.runs.workbench import Workbench
from search.scoring.paired_stderr import paired_stderr
from synth.progress import Report

Values = Mapping[str, list[float]]
"""`{metric: (n_probes,)}`, in the same order for every model."""


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """One trial by likelihood on search and validation probes together."""

    scores: Scores
    values: Values  # what the scores are means of; not of every metric


def record_front(run: Run, bench: Workbench, stopped: str, report: Report) -> None:
    """Choose the pick and write front/search.json; a SafemergeError where no trial has finished."""
    if not run.candidates:
        reason = failed(run) or "none was tried"
        raise SafemergeError(
            f"the search is over ({stopped}) and no trial has finished, so there is no front: "
            f"{reason}; put that right or loosen [search.stop], and the same command goes on"
        )
    most = run.config.search.answered
    near, answered = run.front(), None
    if most and "fitness" not in near.directions:
        tokens = run.config.probes.max_tokens
        run, near, answered = _answered(run, bench, most, tokens, report)
        asker = validation_asker(run.dir, bench, tokens)
        answered = with_general(answered, near.points, asker, run.baseline, report)
    front = run.front()
    before = run.front_record()
    known = {} if before is None else {p.trial: p.validation for p in before.points}
    validation: dict[int, Scores] = {}
    likelihoods: dict[int, Likelihoods] = {}
    points = near.points if bench.validation is not None else ()
    for done, point in enumerate(points):
        report("validation", done, len(points), f"trial {point.number}")
        scores, values = _validated(run, bench, point, known.get(point.number))
        searched = run.dir.trial_by_probe(point.number) or {}
        validation[point.number] = scores
        likelihoods[point.number] = Likelihoods(
            _pooled(point.scores, scores),
            {metric: [*searched[metric], *values[metric]] for metric in searched.keys() & values},
        )
    report("validation", len(points), len(points), "")
    replies = {} if answered is None else answered.trials
    run.dir.write(
        FRONT,
        FrontRecord(
            pick=choose(near, answered, likelihoods, run.config.limits),
            stopped=stopped,
            feasible=all(point.feasible for point in front.points),
            hypervolume=front.hypervolume(),
            points=[
                FrontPoint(
                    trial=point.number,
                    on_front=point in front.points,
                    violation=point.violation,
                    scores=dict(point.scores),
                    validation=dict(validation.get(point.number, {})),
                    answered=dict(replies.get(point.number, {})),
                )
                for point in near.points
            ],
            trials=len(run.candidates),
            answered_baseline=None if answered is None else answered.baseline,
        ),
    )


def _answered(
    run: Run, bench: Workbench, most: int, tokens: int, report: Report
) -> tuple[Run, Front, ValidationScores]:
    """The run as it is when all candidates have answered, these, and what they say.

    Replies refine the maps from likelihoods to rates, by which other trials may come near the
    front: these answer too, until there is none. So the same command again finds the same ones.
    """
    while True:
        near = run.front().with_near(run.candidates, most)
        answered = answer(run.dir, bench, near.points, max_tokens=tokens, report=report)
        known = run.rates.trials
        if not run.config.calibrates or all(point.number in known for point in near.points):
            return run, near, answered
        run = Run.load(run.dir.path)


def _validated(
    run: Run, bench: Workbench, point: Candidate, scores: Scores | None
) -> tuple[Scores, Values]:
    """Scores and values of a trial on the validation probes; measured where they are not known."""
    values = run.dir.trial_validation(point.number)
    if scores and values is not None:
        return scores, values
    measured = bench.measure_validation(point.recipe)
    values = {name: row.tolist() for name, row in (measured.by_probe or {}).items()}
    run.dir.write_validation(point.number, values)
    return measured.scores, values


def choose(
    near: Front,
    answered: ValidationScores | None,
    likelihoods: Mapping[int, Likelihoods],
    limits: Mapping[str, Limit],
) -> int:
    """Number of the trial that steps 2 to 5 leave of the front and the trials near it.

    Args:
        answered: their scores by generation; None leaves out steps 2 and 3.
        likelihoods: `{trial: likelihoods}`; empty leaves out step 4.
    """
    left = {point.number for point in near.points}
    if answered is not None:
        left = _within_limits(answered, Limits(limits, answered.baseline))
        left = _within_one_error(left, answered.trials, answered.values, near.directions)
    if likelihoods:
        scores = {number: row.scores for number, row in likelihoods.items()}
        values = {number: row.values for number, row in likelihoods.items()}
        left = _within_one_error(left, scores, values, near.directions)
    return near.minimax_regret(left).number


def _pooled(a: Scores, b: Scores) -> dict[str, Score]:
    """Scores on the probes of both together, of the metrics that both have."""
    pooled = {}
    for metric in a.keys() & b.keys():
        x, y = a[metric], b[metric]
        n = x.n + y.n
        value = (x.n * x.value + y.n * y.value) / n
        pooled[metric] = Score(value, math.hypot(x.n * x.stderr, y.n * y.stderr) / n, n)
    return pooled


def _within_limits(answered: ValidationScores, limits: Limits) -> set[int]:
    """Trials that keep the limits as answered, or else those that break them least.

    A total beyond the limits is taken for the least where it is larger by no more than the least
    one's standard error, so that one reply more does not outweigh the objectives.
    """
    within = {number for number, row in answered.trials.items() if not limits.broken(row)}
    if within:
        return within
    beyond = {number: limits.violations(row) for number, row in answered.trials.items()}
    totals = {number: total_violation(row.values()) for number, row in beyond.items()}
    least = min(totals, key=lambda number: (totals[number], number))
    errors = (
        answered.trials[least][metric].stderr for metric, by in beyond[least].items() if by > 0.0
    )
    most = totals[least] + math.hypot(*errors)
    return {number for number, total in totals.items() if total <= most}


def _within_one_error(
    left: Iterable[int],
    scores: Mapping[int, Scores],
    values: Mapping[int, Values],
    directions: Directions,
) -> set[int]:
    """Trials whose sum of objectives cannot be told from the best one's.

    The one-standard-error rule of Breiman et al. (1984), with the error of the difference.
    """
    total = {number: sum(gains(scores[number], directions)) for number in left}
    best = max(total, key=lambda number: (total[number], -number))

    def error(number: int) -> float:
        pair = [(scores[n], values.get(n, {})) for n in (best, number)]
        return _error_of_sum(*pair[0], *pair[1], directions)

    return {
        number
        for number, value in total.items()
        if number == best or total[best] - value <= error(number)
    }


def _error_of_sum(
    scores: Scores, values: Values, others: Scores, other: Values, directions: Directions
) -> float:
    """Standard error of the difference between two trials' sums of objectives.

    Objectives on the same probes are added probe by probe; those on different probes are
    independent. Where the values by probe are not known, nor is what two trials have in common.
    """
    by_axis: dict[str, list[list[float]]] = {}
    rest = 0.0
    for metric, sign in signs(directions).items():
        axis = probe_axis(metric)
        if axis is None or metric not in values or metric not in other:
            # It may share probes with any of the others, so its error adds up with theirs.
            rest += math.hypot(scores[metric].stderr, others[metric].stderr)
            continue
        pairs = zip(values[metric], other[metric], strict=True)
        by_axis.setdefault(axis, []).append([sign * (a - b) for a, b in pairs])
    errors = [
        paired_stderr(map(sum, zip(*rows, strict=True)), largest=len(rows))
        for rows in by_axis.values()
    ]
    return math.hypot(*errors) + rest
