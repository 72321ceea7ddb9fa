"""The pick, by the five steps of docs/search.md#the-pick, and front/search.json.

Steps 2 and 3 need generation and may be turned off; they are skipped for a fitness, which is made
of likelihoods. Step 4 needs validation probes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from safemerge.errors import SafemergeError
from safemerge.score import Score, Scores
from search.metrics import Limit, Limits, gains
from search.progress import Report
from search.results.answers import ValidationScores, answer
from search.results.diagnostics import failed
from search.results.general_answers import validation_asker, with_general
from search.results.pareto import Front
from search.results.run import FRONT, FrontPoint, FrontRecord, Run
from search.runs.workbench import Workbench


def record_front(run: Run, bench: Workbench, stopped: str, report: Report) -> None:
    """Choose the pick and write front/search.json; a SafemergeError where no trial has finished."""
    if not run.candidates:
        reason = failed(run) or "none was tried"
        raise SafemergeError(
            f"the search is over ({stopped}) and no trial has finished, so there is no front: "
            f"{reason}; put that right or loosen [search.stop], and the same command goes on"
        )
    front, most = run.front(), run.config.search.answered
    near, answered = front, None
    if most and "fitness" not in front.directions:
        near = front.with_near(run.candidates, most)
        tokens = run.config.probes.max_tokens
        answered = answer(run.dir, bench, near.points, max_tokens=tokens, report=report)
        asker = validation_asker(run.dir, bench, tokens)
        answered = with_general(answered, near.points, asker, run.baseline)
    before = run.front_record()
    validation = {} if before is None else {p.trial: p.validation for p in before.points}
    validation = {
        point.number: validation.get(point.number) or bench.score_validation(point.recipe)
        for point in near.points
        if bench.validation is not None
    }
    replies = {} if answered is None else answered.trials
    run.dir.write(
        FRONT,
        FrontRecord(
            pick=choose(near, answered, validation, run.config.limits),
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
        ),
    )


def choose(
    near: Front,
    answered: ValidationScores | None,
    validation: Mapping[int, Scores],
    limits: Mapping[str, Limit],
) -> int:
    """Number of the trial that steps 2 to 5 leave of the front and the trials near it.

    Args:
        answered: their scores by generation; None leaves out steps 2 and 3.
        validation: `{trial: scores}` by likelihood; empty leaves out step 4.
    """
    left = {point.number for point in near.points}
    if answered is not None:
        left = _within_limits(answered, Limits(limits, answered.baseline)) or left
        left = _within_one_error({number: answered.trials[number] for number in left}, near)
    if validation:
        searched = {point.number: point.scores for point in near.points}
        pooled = {number: _pooled(searched[number], validation[number]) for number in left}
        left = _within_one_error(pooled, near)
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
    """Trials that break no limit by more than one standard error of what they answered."""
    return {
        number
        for number, scores in answered.trials.items()
        if all(by <= scores[metric].stderr for metric, by in limits.violations(scores).items())
    }


def _within_one_error(scores: Mapping[int, Scores], front: Front) -> set[int]:
    """Trials whose sum of objectives is within one standard error of the best one's.

    The one-standard-error rule of Breiman et al. (1984).
    """
    total = {number: sum(gains(row, front.directions)) for number, row in scores.items()}
    best = max(total, key=lambda number: total[number])
    error = math.hypot(*(scores[best][metric].stderr for metric in front.directions))
    return {number for number, value in total.items() if value >= total[best] - error}
