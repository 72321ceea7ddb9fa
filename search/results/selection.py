"""The pick, and front/search.json. The rule, each step among what the one before has left; ours:

1. The front, and the trials that the search probes cannot tell from it.
2. Within the limits as answered; where none of them is, all stay.
3. The sum of the objectives as answered within one standard error of the best.
4. The same by likelihood on search and validation probes together, which is finer where all answers
   are right, and of far more probes.
5. The knee of the scores on the search probes.

Over 16 searches of 20 and 30 evaluations on two worlds, held-out means of the axes: 97.5 by this
rule, 97.3 with validation probes alone in step 4, and 98.3 had the held-out probes chosen. Step 3
needs errors that are not 0 where all answers are right: with those it was 96.0.

Steps 2 and 3 need generation and may be turned off; a fitness, which is made of likelihoods, goes
without them. Step 4 needs validation probes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from safemerge.errors import SafemergeError
from safemerge.score import Score, Scores
from search.config import SearchConfig
from search.progress import Report
from search.results.answers import Answered, answer
from search.results.diagnostics import failed
from search.results.pareto import Front
from search.results.run import Run
from search.runs.rundir import scores_from, scores_record
from search.runs.workbench import Workbench


def record_front(run: Run, bench: Workbench, stopped: str, report: Report) -> None:
    """Choose the pick and write front/search.json.

    Args:
        run: with all its trials.
        bench: its workbench.
        stopped: why the search ended.
        report: called for every model that answers.

    Raises:
        SafemergeError: where no trial has finished, with why.
    """
    if not run.candidates:
        told = failed(run) or "none was tried"
        raise SafemergeError(
            f"the search is over ({stopped}) and no trial has finished, so there is no front: "
            f"{told}; put that right or loosen [search.stop], and the same command goes on"
        )
    front, most = run.front(), run.config.search.answered
    tried, answered = front, None
    if most and "fitness" not in front.directions:
        tried = front.with_near(run.candidates, most)
        tokens = run.config.probes.max_tokens
        answered = answer(run.dir, bench, tried.points, max_tokens=tokens, report=report)
    before = run.dir.read("front/search.json") or {"points": []}
    known = {point["trial"]: scores_from(point["validation"]) for point in before["points"]}
    validation = {
        point.number: known.get(point.number)
        or bench.validation.score(point.recipe, bench.resident(point.recipe))
        for point in tried.points
        if bench.validation is not None
    }
    said = {} if answered is None else answered.trials
    record = {
        "pick": choose(tried, answered, validation, run.config),
        "stopped": stopped,
        "feasible": all(point.feasible for point in front.points),
        "hypervolume": front.hypervolume(),
        "points": [
            {
                "trial": point.number,
                "on_front": point in front.points,
                "violation": point.violation,
                "scores": scores_record(point.scores),
                "validation": scores_record(validation.get(point.number, {})),
                "answered": scores_record(said.get(point.number, {})),
            }
            for point in tried.points
        ],
    }
    run.dir.write("front/search.json", record)


def choose(
    tried: Front,
    answered: Answered | None,
    validation: Mapping[int, Scores],
    config: SearchConfig,
) -> int:
    """Number of the trial that steps 2 to 5 of the rule leave.

    Args:
        tried: the front and what is near it.
        answered: what these have answered; None leaves out steps 2 and 3.
        validation: `{trial: scores}` by likelihood; empty leaves out step 4.
        config: its limits.
    """
    left = {point.number for point in tried.points}
    if answered is not None:
        left = _within_limits(answered, config) or left
        left = _within_one_error({number: answered.trials[number] for number in left}, tried)
    if validation:
        searched = {point.number: point.scores for point in tried.points}
        pooled = {number: _pooled(searched[number], validation[number]) for number in left}
        left = _within_one_error(pooled, tried)
    return tried.knee(left).number


def _pooled(one: Scores, other: Scores) -> dict[str, Score]:
    """Scores on the probes of both together, of the metrics that both have."""
    found = {}
    for metric in one.keys() & other.keys():
        a, b = one[metric], other[metric]
        n = a.n + b.n
        value = (a.n * a.value + b.n * b.value) / n
        found[metric] = Score(value, math.hypot(a.n * a.stderr, b.n * b.stderr) / n, n)
    return found


def _within_limits(answered: Answered, config: SearchConfig) -> set[int]:
    """Trials that break no limit by more than one standard error of what they answered."""
    return {
        number
        for number, scores in answered.trials.items()
        if all(
            limit.violation(metric, scores, answered.base, answered.sources)
            <= scores[metric].stderr
            for metric, limit in config.limits.items()
            if metric in scores
        )
    }


def _within_one_error(scores: Mapping[int, Scores], front: Front) -> set[int]:
    """Trials whose sum of objectives is within one standard error of the best one's.

    Closer than that they cannot be told apart.
    """
    total = {
        number: sum(row[m].value * (1.0 if up else -1.0) for m, up in front.directions.items())
        for number, row in scores.items()
    }
    best = max(total, key=lambda number: total[number])
    error = math.hypot(*(scores[best][metric].stderr for metric in front.directions))
    return {number for number, value in total.items() if value >= total[best] - error}
