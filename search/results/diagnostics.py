"""What a run fell short of, in words: no trial within the limits, and trials that failed."""

from __future__ import annotations

from collections import Counter

from search.results.run import Run
from search.results.standing import answered_within, reply_limits, shown, standing

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
    how = "by its replies to the validation probes" if found.by_replies else "by likelihood"
    return (
        f"the pick, trial {number}, is outside its limits {how}: {found.text}. It is exported only "
        f"by its number: safemerge export {run.dir.path} {number}"
    )


def nothing_within(run: Run) -> str | None:
    """The trial nearest to the limits, and what to loosen; None where nothing is to be said.

    Limits on likelihoods are estimates, so what replies say of them is told too.
    """
    if not run.candidates or any(candidate.feasible for candidate in run.candidates):
        return None
    nearest = run.front().points[0]
    violations = run.limits.violations(nearest.scores)
    missed = [metric for metric, value in violations.items() if value > 0.0]
    every = [run.limits.violations(candidate.scores) for candidate in run.candidates]
    # What a trial was not measured in, it was not found to be within.
    never = [metric for metric in missed if min(each.get(metric, 1.0) for each in every) > 0.0]
    advice = (
        f"By likelihood no trial is within the limit on {' or on '.join(never)} even alone: loosen "
        "that first"
        if never
        else "By likelihood each limit is met by some trial, never all at once: loosen what "
        "matters least"
    )
    return "\n".join(
        [
            f"by likelihood, none of {len(run.candidates)} trials is within all limits; the "
            f"nearest is trial {nearest.number}:",
            *(_missed(run, nearest.scores[m].value, m, m in never) for m in missed),
            _by_replies(run),
            f"{advice}, and start a new run with --run NAME, or go on with more --trials.",
        ]
    )


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
            "Limits on likelihoods are estimates, and no replies of these trials have been read "
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
    values = [c.scores[metric].value for c in run.candidates if metric in c.scores]
    best = max(values) if limit.at_least is not None else min(values)
    by = abs(value - run.limits.bound(metric))  # a violation in nats is no distance
    value_, bound, beyond, best_ = (
        shown(metric, number, by_replies=False)
        for number in (value, run.limits.bound(metric), by, best)
    )
    resolved = f" ({bound})" if isinstance(limit.bound, str) else ""
    alone = f"; the best of all trials is {best_}" if never else ""
    return f"  {metric} {value_}, limit {limit.text}{resolved}: outside by {beyond}{alone}"
