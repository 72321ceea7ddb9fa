"""How a trial ended: recorded in its folder, then told to Optuna."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState

from safemerge.recipe import Recipe
from safemerge.score import Score
from search.study.context import StudyContext

# User attributes of a trial.
WORKER = "worker"  # number of the process that runs it
ERROR = "error"  # why it failed; a trial that was enqueued again has none


def tell(context: StudyContext, trial: optuna.Trial, scores: dict[str, Score]) -> None:
    """Report a finished trial: constraints first, all of them, then the objectives."""
    before_a_kill = context.trials()[trial.number].constraints
    for metric, value in context.violations(trial.number, scores).items():
        if metric not in before_a_kill:
            trial.set_constraint(metric, value)
    context.study.tell(trial, [scores[name].value for name in context.directions])


def fail(context: StudyContext, trial: optuna.Trial, recipe: Recipe | None, reason: str) -> None:
    """Report a failed trial with its reason."""
    context.home.write_failure(trial.number, recipe, reason)
    trial.set_user_attr(ERROR, reason.splitlines()[0][:300])
    context.study.tell(trial, state=TrialState.FAIL)
