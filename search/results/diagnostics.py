"""What a run fell short of, in words: no trial within the limits, and trials that failed."""

from __future__ import annotations

from collections import Counter

from search.results.run import Run
from search.results.standing import answered_within, basis, reply_limits, shown, standing
from search.scoring.calibration import LEAST_MODELS

_REASONS = 3  # most that are listed


def shortfalls(run: Run) -> list[str]:
    """Everything that a user should know of a run that did not go well; empty where it did."""
    texts = (failed(run), nothing_within(run), pick_outside(run))
    return [text for text in texts if text is not None]


def pick_outside(run: Run) -> str | None:
    """By what the pick is outside its limits; None where it keeps them, or there is none yet."""
    if not run.candidates or run.front_record() is None:
        return None
    number = run.pick().number
    found = standing(run, number)
    if not found.outside:
        return None
    return (
        f"the pick, trial {number}, is outside its limits {found.source}: {found.text}. It is "
        f"exported only "
        f"by its number: safemerge export {run.dir.path} {number}"
    )


def nothing_within(run: Run) -> str | None:
    """The trial nearest to the limits, and what to loosen; None where nothing is to be said.

    What likelihoods say of limits are estimates, so what replies say of them is told too.
    """
    if not run.candidates or any(candidate.feasible for candidate in run.candidates):
        return None
    nearest = run.front().points[0]
    violations, how = run.limits.violations(nearest.shown), basis(run)
    missed = [metric for metric, value in violations.items() if value > 0.0]
    every = [run.limits.violations(candidate.shown) for candidate in run.candidates]
    # What a trial was not measured in, it was not found to be within.
    never = [metric for metric in missed if min(each.get(metric, 1.0) for each in every) > 0.0]
    advice = (
        f"By {how} no trial is within the limit on {' or on '.join(never)} even alone: loosen "
        "that first"
        if never
        else f"By {how} each limit is met by some trial, never all at once: loosen what "
        "matters least"
    )
    return "\n".join(
        [
            f"by {how}, none of {len(run.candidates)} trials is within all limits; the "
            f"nearest is trial {nearest.number}:",
            *(_missed(run, nearest.shown[m].value, m, m in never) for m in missed),
            _by_replies(run),
            f"{advice}, and start a new run with --run NAME, or go on with more --trials.",
        ]
    )


def rates_from(run: Run) -> str:
    """On how many models' replies the estimated rates rest, or why there are none."""
    if not run.config.calibrates:
        return "none: scores of trials are likelihoods (search.calibrate = 0, or a fitness)"
    maps = run.rates.maps
    if not maps:
        answered = len(run.rates.references) + len(run.rates.trials)
        return (
            f"none yet: {answered} models have answered, and a map takes {LEAST_MODELS} of "
            "different scores"
        )
    counts = {found.models for found in maps.values()}
    if len(counts) == 1:
        return f"replies of {counts.pop()} models: {', '.join(maps)}"
    return "replies: " + ", ".join(f"{m} of {found.models} models" for m, found in maps.items())


def failed(run: Run) -> str | None:
    """How many trials failed, with the commonest reasons; None without any."""
    reasons = Counter(run.failures().values())
    if not reasons:
        return None
    count = reasons.total()
    parts = [f"{n} with {reason}" for reason, n in reasons.most_common(_REASONS)]
    others = len(reasons) - len(parts)
    if others > 0:
        parts.append(f"the rest with {others} other reasons")
    return (
        f"{count} of {count + len(run.candidates)} trials failed: {'; '.join(parts)}. Each one's "
        f"reason is in {run.dir.path}/trials/NUMBER/error.txt"
    )


def _by_replies(run: Run) -> str:
    answered = answered_within(run)
    within = [number for number, keeps in answered.items() if keeps]
    if reply_limits(run) is None or not answered:
        return (
            f"Limits by {basis(run)} are estimates, and no replies of these trials have been read "
            "that could confirm them."
        )
    if within:
        listed = ", ".join(map(str, within))
        return (
            f"Replies do not confirm that: of {len(answered)} trials that answered the validation "
            f"probes, {len(within)} keep all limits: {listed}."
        )
    return (
        f"Replies confirm it: none of the {len(answered)} trials that answered the validation "
        "probes keeps all limits."
    )


def _missed(run: Run, value: float, metric: str, never: bool) -> str:
    limit = run.config.limits[metric]
    values = [c.shown[metric].value for c in run.candidates if metric in c.shown]
    best = max(values) if limit.at_least is not None else min(values)
    by = abs(value - run.limits.bound(metric))  # a violation in nats is no distance
    value_, bound, beyond, best_ = (
        shown(metric, number, run.rates.maps)
        for number in (value, run.limits.bound(metric), by, best)
    )
    bound, beyond = bound.removeprefix("~"), beyond.removeprefix("~")
    resolved = f" ({bound})" if isinstance(limit.bound, str) else ""
    alone = f"; the best of all trials is {best_}" if never else ""
    return f"  {metric} {value_}, limit {limit.text}{resolved}: outside by {beyond}{alone}"
