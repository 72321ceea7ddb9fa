"""The pick, and front/search.json. Each step of the rule keeps some of what the step before left:

1. The front, and the trials whose search scores cannot be told from it.
2. Candidates that break a limit as answered are dropped, unless all do.
3. Candidates within one standard error of the best sum of the objectives, as answered.
4. The same by likelihood on search and validation probes together: finer where all answers are
   right, and over far more probes.
5. The point of smallest worst-case regret on the search probes (`Front.minimax_regret`).

Steps 2 and 3 need generation and may be turned off; they are skipped for a fitness, which is made
of likelihoods. Step 4 needs validation probes. The one-standard-error rule is that of Breiman et
al. (1984), applied to a choice among merges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from safemerge.errors import SafemergeError
from safemerge.score import Score, Scores
from search.metrics import Limit, Limits, signs
from search.progress import Report
from search.results.answers import ValidationScores, answer
from search.results.diagnostics import failed
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
    """Number of the trial that steps 2 to 5 of the rule leave.

    Args:
        near: the front and the trials near it.
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
    """Trials whose sum of objectives is within one standard error of the best one's."""
    total = {
        number: sum(
            row[metric].value * sign
            for metric, sign in zip(front.directions, signs(front.directions), strict=True)
        )
        for number, row in scores.items()
    }
    best = max(total, key=lambda number: total[number])
    error = math.hypot(*(scores[best][metric].stderr for metric in front.directions))
    return {number for number, value in total.items() if value >= total[best] - error}
