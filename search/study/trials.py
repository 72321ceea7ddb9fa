"""One worker's trials: ask, merge, score, record, tell."""

from __future__ import annotations

import hashlib
import logging
import math
import time

import optuna
from optuna.trial import TrialState

from safemerge.errors import EngineError, SafemergeError
from safemerge.recipe import Recipe
from safemerge.score import Score
from search.metrics import Limits
from search.results.answers import TRIAL_FILES, ask_live, write_answers
from search.runs.workbench import Workbench
from search.scoring.likelihood import Measurement
from search.scoring.racing import ByProbe
from search.study.answering import should_answer
from search.study.context import StudyContext
from search.study.interrupts import interruptible, uninterrupted
from search.study.outcome import ERROR, WORKER, fail, tell
from search.study.race_opponents import race_of
from search.study.stopping import SECONDS, reason_to_stop
from synth.progress import Report

log = logging.getLogger(__name__)

_RECIPE = "recipe"  # user attribute of a trial: SHA-256 of its recipe
_HOPELESS = 0.5  # share of sentinels with degenerate replies
_TURN_S = 0.2  # between looks at whether others have left something to do


def run_trials(
    context: StudyContext,
    bench: Workbench,
    report: Report,
    *,
    worker: int = 0,
    first: int,
    answers: bool = True,
) -> str:
    """Run trials until there is a reason to stop, and return it.

    Args:
        worker: number of this process among all of this call of the command.
        first: the first trial of this call; earlier ones do not count for `search.failed_frac`.
        answers: whether some of these trials answer the validation probes, for the maps from
            likelihoods to rates.

    Raises:
        SafemergeError: more trials failed than `search.failed_frac` allows.
    """
    home = context.home
    context.show(report)
    most_degenerate = _most_degenerate(context.limits)
    rivals: dict[int, ByProbe] = {}
    while True:
        start = time.monotonic()
        with home.turn(), uninterrupted():
            check_failures(context, first)
            reason = reason_to_stop(context)
            trial = ask(context, worker) if reason is None else None
        if reason is not None:
            return reason
        if trial is None:
            time.sleep(_TURN_S)
            continue
        recipe: Recipe | None = None
        try:
            with home.turn(), uninterrupted():
                recipe = bench.space.suggest(trial)
                known = _same_recipe(context, trial, recipe)
                race = race_of(context, rivals)
            if known is None:
                with interruptible():
                    measured = bench.measure(recipe, most_degenerate=most_degenerate, race=race)
                    _check_finite(measured.scores)
                    if answers and should_answer(context, measured):
                        _answer(context, bench, trial.number)  # first: scores end the trial
            else:
                measured = Measurement(known, None)
        # One broken trial (out of memory, NaN, a refused recipe) must not end the study.
        except (RuntimeError, ValueError, MemoryError, SafemergeError) as error:
            with home.turn(), uninterrupted():
                trial.set_user_attr(SECONDS, time.monotonic() - start)
                fail(context, trial, recipe, f"{type(error).__name__}: {error}")
            continue
        with home.turn(), uninterrupted():
            by_probe = {name: row.tolist() for name, row in (measured.by_probe or {}).items()}
            home.write_trial(trial.number, recipe, measured.scores, by_probe)
            trial.set_user_attr(SECONDS, time.monotonic() - start)
            tell(context, trial, measured.scores)
            context.show(report)


def _answer(context: StudyContext, bench: Workbench, number: int) -> None:
    """The live trial answers the validation probes.

    A judge or a server that is down costs the trial its replies, not its scores.
    """
    try:
        answers = ask_live(bench, context.reply_tokens)
    except EngineError as error:
        log.warning("trial %d has answered no probes: %s", number, error)
        return
    write_answers(context.home, TRIAL_FILES.format(number), answers)


def check_failures(context: StudyContext, first: int) -> None:
    """Refuse to go on where too large a share of the trials failed since trial `first`.

    A share of ten trials at least, or of all that are left.
    """
    trials, settings = context.trials(), context.settings
    reasons = [t.user_attrs[ERROR] for t in trials[first:] if ERROR in t.user_attrs]
    before, since = (
        sum(trial.state == TrialState.COMPLETE for trial in part)
        for part in (trials[:first], trials[first:])
    )
    tried = len(reasons) + since
    too_many = len(reasons) > settings.failed_frac * tried
    if too_many and tried >= min(10, settings.trials - before):
        commonest = max(reasons, key=reasons.count)
        raise SafemergeError(
            f"{len(reasons)} of {tried} trials failed, more than search.failed_frac = "
            f"{settings.failed_frac}, {reasons.count(commonest)} of them with: {commonest} "
            "(each trial's reason is in trials/NUMBER/error.txt); when that is put right, the same "
            "command goes on"
        )


def ask(context: StudyContext, worker: int) -> optuna.Trial | None:
    """A new trial of this worker; None where those that run may complete the budget."""
    under_way = context.trials(TrialState.COMPLETE, TrialState.RUNNING)
    if len(under_way) >= context.settings.trials:
        return None
    trial = context.study.ask()
    trial.set_user_attr(WORKER, worker)
    return trial


def _most_degenerate(limits: Limits) -> float:
    """Share of degenerate sentinels above which a trial, on no front, is not scored further."""
    limit = limits.limits.get("degenerate")
    if limit is None or limit.at_most is None:
        return 1.0
    return max(_HOPELESS, limits.bound("degenerate"))


def _same_recipe(
    context: StudyContext, trial: optuna.Trial, recipe: Recipe
) -> dict[str, Score] | None:
    """Scores of a finished trial with the same recipe, whose number is then recorded; else None."""
    digest = hashlib.sha256(recipe.canonical_json().encode("utf-8")).hexdigest()
    trial.set_user_attr(_RECIPE, digest)
    for other in context.complete():
        if other.user_attrs.get(_RECIPE) == digest:
            context.home.write_same(trial.number, other.number)
            return context.home.trial_scores(other.number)
    return None


def _check_finite(scores: dict[str, Score]) -> None:
    for metric, score in scores.items():
        if not math.isfinite(score.value):
            raise ValueError(f"the score of {metric} is {score.value}: the merged model is broken")
