"""One worker's trials: ask, merge, score, record, tell; and settling those that were left running.

Order within a trial: the recipe is merged and scored, the trial folder is written (scores.json
last), then Optuna is told. A kill in between leaves a RUNNING trial, which is either told from its
complete folder or failed and enqueued again with the same parameters, unless its process has died
with it so often that it must be the cause.
"""

from __future__ import annotations

import hashlib
import math
import time

import optuna
from optuna.trial import TrialState

from safemerge.errors import SafemergeError
from safemerge.recipe import Recipe
from safemerge.score import Score
from search.config import SearchConfig
from search.progress import Report
from search.results.run import read_baseline, violations
from search.runs.rundir import RunDir
from search.runs.workbench import Workbench
from search.scoring.likelihood import Measured
from search.scoring.racing import ByProbe
from search.study.interrupts import interruptible, uninterrupted
from search.study.rivals import race_of
from search.study.stopping import SECONDS, reason_to_stop

# User attributes of a trial.
WORKER = "worker"  # number of the process that runs it
ERROR = "error"  # why it failed; a trial that was enqueued again has none
_RECIPE = "recipe"  # SHA-256 of its recipe
_AGAIN = "again"  # number of the unfinished trial that it repeats
_KILLED = "killed"  # how often its process has been killed before, with the same parameters

KILLS = 3  # of its process with which a trial counts as failed

_HOPELESS = 0.5  # share of sentinels that are babble
_TURN_S = 0.2  # between looks at whether others have left something to do


def run_trials(
    home: RunDir,
    study: optuna.Study,
    config: SearchConfig,
    bench: Workbench,
    report: Report,
    *,
    worker: int = 0,
    first: int,
) -> str:
    """Run trials until there is a reason to stop, and return it.

    Args:
        home: the run, which this process holds or has joined.
        study: its study, with this worker's sampler.
        config: its configuration.
        bench: this worker's own.
        report: called after every trial.
        worker: number of this process among all of this call of the command.
        first: number of the first trial that this call ran or runs; those of earlier calls do not
            count for `search.failed_frac`.

    Raises:
        SafemergeError: more trials failed than `search.failed_frac` allows.
    """
    report("trials", _complete(study), config.search.trials, "")
    most_babble = _most_babble(home, config)
    rivals: dict[int, ByProbe] = {}
    while True:
        start = time.monotonic()
        with uninterrupted(), home.turn():
            check_failures(study, config, first)
            reason = reason_to_stop(study, config)
            trial = _ask(study, config, worker) if reason is None else None
        if reason is not None:
            return reason
        if trial is None:
            time.sleep(_TURN_S)
            continue
        recipe: Recipe | None = None
        try:
            with uninterrupted(), home.turn():
                recipe = bench.space.suggest(trial)
                known = _same_recipe(home, trial, recipe)
                race = race_of(home, study, config, rivals)
            if known is None:
                with interruptible():
                    resident = bench.resident(recipe)
                    measured = bench.evaluator.measure(
                        recipe, resident, most_babble=most_babble, race=race
                    )
                _check_measured(measured.scores)
            else:
                measured = Measured(known, None)
        # One broken trial (out of memory, NaN, a refused recipe) must not end the study.
        except (RuntimeError, ValueError, MemoryError, SafemergeError) as error:
            with uninterrupted(), home.turn():
                trial.set_user_attr(SECONDS, time.monotonic() - start)
                _fail(home, trial, recipe, f"{type(error).__name__}: {error}")
            continue
        with uninterrupted(), home.turn():
            scores = measured.scores
            home.write_trial(trial.number, recipe, scores, _listed(measured.by_probe))
            trial.set_user_attr(SECONDS, time.monotonic() - start)
            _tell(home, study, trial, scores, config)
            complete = _complete(study)
        note = "  ".join(f"{name} {scores[name].value:.3f}" for name in config.objective_names)
        report("trials", complete, config.search.trials, note)


def recover(
    home: RunDir,
    study: optuna.Study,
    config: SearchConfig,
    *,
    worker: int | None = None,
    stopped: bool = False,
) -> None:
    """Settle the trials that were left running.

    Args:
        home: the run.
        study: its study.
        config: its configuration.
        worker: whose; also those without a mark, asked for by a process that died before it could
            set one. None is everybody's.
        stopped: they were stopped on purpose, which does not count as a kill of their process.
    """
    with home.turn():
        for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if worker is not None and frozen.user_attrs.get(WORKER, worker) != worker:
                continue
            scores = home.trial_scores(frozen.number)
            if scores is not None:
                _tell(home, study, optuna.Trial(study, frozen._trial_id), scores, config)
            else:
                kills = frozen.user_attrs.get(_KILLED, 0) + (not stopped)
                if kills < KILLS:
                    _enqueue_again(study, frozen, kills)
                else:
                    _fail(
                        home,
                        optuna.Trial(study, frozen._trial_id),
                        None,
                        f"its process was killed while it ran, {kills} times, as happens where "
                        "memory runs out",
                    )


def check_failures(study: optuna.Study, config: SearchConfig, first: int) -> None:
    """Refuse to go on where too large a share of the trials failed since trial `first`.

    A share of ten trials at least, or of all that are left where those are fewer.

    Raises:
        SafemergeError: with how many, the commonest reason, and where to set the share.
    """
    trials = study.get_trials(deepcopy=False)
    reasons = [t.user_attrs[ERROR] for t in trials[first:] if ERROR in t.user_attrs]
    before, since = (
        sum(trial.state == TrialState.COMPLETE for trial in part)
        for part in (trials[:first], trials[first:])
    )
    tried = len(reasons) + since
    too_many = len(reasons) > config.search.failed_frac * tried
    if too_many and tried >= min(10, config.search.trials - before):
        commonest = max(reasons, key=reasons.count)
        raise SafemergeError(
            f"{len(reasons)} of {tried} trials failed, more than search.failed_frac = "
            f"{config.search.failed_frac}, {reasons.count(commonest)} of them with: {commonest} "
            "(each trial's reason is in trials/NUMBER/error.txt); when that is put right, the same "
            "command goes on"
        )


def _ask(study: optuna.Study, config: SearchConfig, worker: int) -> optuna.Trial | None:
    """A new trial of this worker; None where those that run may complete the budget."""
    under_way = (TrialState.COMPLETE, TrialState.RUNNING)
    if len(study.get_trials(deepcopy=False, states=under_way)) >= config.search.trials:
        return None
    trial = study.ask()
    trial.set_user_attr(WORKER, worker)
    return trial


def _most_babble(home: RunDir, config: SearchConfig) -> float:
    """Share of babbling sentinels above which a trial is not worth a pass over all probes.

    That is at least a half, and above what the limits allow: such a trial is on no front, and what
    its sentinels say of the other metrics will do to steer by.
    """
    limit = config.limits.get("degenerate")
    if limit is None or limit.at_most is None:
        return 1.0
    return max(_HOPELESS, limit.resolve("degenerate", *read_baseline(home)))


def _listed(by_probe: ByProbe | None) -> dict[str, list[float]] | None:
    if by_probe is None:
        return None
    return {metric: values.tolist() for metric, values in by_probe.items()}


def _same_recipe(home: RunDir, trial: optuna.Trial, recipe: Recipe) -> dict[str, Score] | None:
    """Scores of a finished trial with the same recipe, whose number is then recorded; else None."""
    digest = hashlib.sha256(recipe.canonical_json().encode("utf-8")).hexdigest()
    trial.set_user_attr(_RECIPE, digest)
    for other in trial.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if other.user_attrs.get(_RECIPE) == digest:
            home.write_same(trial.number, other.number)
            return home.trial_scores(other.number)
    return None


def _tell(
    home: RunDir,
    study: optuna.Study,
    trial: optuna.Trial,
    scores: dict[str, Score],
    config: SearchConfig,
) -> None:
    """Report a finished trial: constraints first, all of them, then the objectives."""
    base, sources = read_baseline(home)
    known = trial.study.get_trials(deepcopy=False)[trial.number].constraints  # set before a kill
    for metric, value in violations(config, scores, base, sources).items():
        if metric not in known:
            trial.set_constraint(metric, value)
    study.tell(trial, [scores[name].value for name in config.objective_names])


def _fail(home: RunDir, trial: optuna.Trial, recipe: Recipe | None, reason: str) -> None:
    """Record a broken trial with its reason."""
    home.write_failure(trial.number, recipe, reason)
    trial.set_user_attr(ERROR, reason.splitlines()[0][:300])
    trial.study.tell(trial, state=TrialState.FAIL)


def _enqueue_again(study: optuna.Study, frozen: optuna.trial.FrozenTrial, kills: int) -> None:
    """Fail an unfinished trial and put its parameters back into the queue, once."""
    # Enqueued first: a kill in between must not lose it, and the mark keeps it from going in twice.
    marks = (trial.user_attrs.get(_AGAIN) for trial in study.get_trials(deepcopy=False))
    params = {**frozen.system_attrs.get("fixed_params", {}), **frozen.params}
    if params and frozen.number not in marks:
        study.enqueue_trial(params, user_attrs={_AGAIN: frozen.number, _KILLED: kills})
    study.tell(frozen.number, state=TrialState.FAIL)


def _complete(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def _check_measured(scores: dict[str, Score]) -> None:
    for metric, score in scores.items():
        if not math.isfinite(score.value):
            raise ValueError(f"the score of {metric} is {score.value}: the merged model is broken")
