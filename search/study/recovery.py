"""Recovery after a kill: settle the trials that were left running.

A kill leaves a RUNNING trial. Optuna is told of it from its complete folder; an incomplete one
fails and is enqueued again, unless its process has died with it too often.
"""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.study.context import StudyContext
from search.study.interrupts import uninterrupted
from search.study.outcome import WORKER, fail, tell

_STOP_S = 5.0  # longest wait for a turn after a Ctrl-C
KILLS = 3  # of its process with which a trial counts as failed

# User attributes of a trial.
_AGAIN = "again"  # number of the unfinished trial that it repeats
_KILLED = "killed"  # how often its process has been killed before, with the same parameters


def recover(context: StudyContext, *, worker: int | None = None, stopped: bool = False) -> None:
    """Settle the trials that were left running.

    Args:
        worker: whose trials, and those without a mark, asked for by a process that died before it
            could set one. None is everybody's.
        stopped: on purpose, which does not count as a kill of their process. What then cannot be
            settled in some seconds, since another process has the turn, is left to the next call.
    """
    wait_s = _STOP_S if stopped else None
    with context.home.turn(wait_s=wait_s) as come, uninterrupted():
        if not come:
            return
        for frozen in context.trials(TrialState.RUNNING):
            if worker is not None and frozen.user_attrs.get(WORKER, worker) != worker:
                continue
            scores = context.home.trial_scores(frozen.number)
            kills = frozen.user_attrs.get(_KILLED, 0) + (not stopped)
            if scores is not None:
                tell(context, optuna.Trial(context.study, frozen._trial_id), scores)
            elif kills < KILLS:
                _enqueue_again(context, frozen, kills)
            else:
                reason = (
                    f"its process was killed while it ran, {kills} times, as happens where memory "
                    "runs out"
                )
                fail(context, optuna.Trial(context.study, frozen._trial_id), None, reason)


def _enqueue_again(context: StudyContext, frozen: FrozenTrial, kills: int) -> None:
    """Fail an unfinished trial and put its parameters back into the queue, once."""
    # Enqueued first: a kill in between must not lose it, and the mark keeps it from going in twice.
    marks = (trial.user_attrs.get(_AGAIN) for trial in context.trials())
    params = {**frozen.system_attrs.get("fixed_params", {}), **frozen.params}
    if params and frozen.number not in marks:
        marked = {_AGAIN: frozen.number, _KILLED: kills}
        context.study.enqueue_trial(params, user_attrs=marked)
    context.study.tell(frozen.number, state=TrialState.FAIL)
