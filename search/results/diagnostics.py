"""What a run fell short of, in words: no trial within the limits, and trials that failed."""

from __future__ import annotations

from collections import Counter

from search.results.run import Run

_REASONS = 3  # most that are listed


def shortfalls(run: Run) -> list[str]:
    """Everything that a user should know of a run that did not go well; empty where it did."""
    return [text for text in (failed(run), nothing_within(run)) if text is not None]


def nothing_within(run: Run) -> str | None:
    """The trial nearest to the limits, and what to loosen; None where nothing is to be said."""
    if not run.candidates or any(candidate.feasible for candidate in run.candidates):
        return None
    nearest = run.front().points[0]
    violations = run.limits.violations(nearest.scores)
    missed = {metric: value for metric, value in violations.items() if value > 0.0}
    every = [run.limits.violations(candidate.scores) for candidate in run.candidates]
    # What a trial was not measured in, it was not found to be within.
    never = [metric for metric in missed if min(each.get(metric, 1.0) for each in every) > 0.0]
    advice = (
        f"No trial is within the limit on {' or on '.join(never)} even alone: loosen that first"
        if never
        else "Each limit is met by some trial, never all at once: loosen what matters least"
    )
    return "\n".join(
        [
            f"none of {len(run.candidates)} trials is within all limits; the nearest is trial "
            f"{nearest.number}:",
            *(_missed(run, nearest.scores[m].value, m, missed[m], m in never) for m in missed),
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


def _missed(run: Run, value: float, metric: str, by: float, never: bool) -> str:
    limit = run.config.limits[metric]
    resolved = f" ({run.limits.bound(metric):.3f})" if isinstance(limit.bound, str) else ""
    values = [c.scores[metric].value for c in run.candidates if metric in c.scores]
    best = max(values) if limit.at_least is not None else min(values)
    alone = f"; the best of all trials is {best:.3f}" if never else ""
    return f"  {metric} {value:.3f}, limit {limit.text}{resolved}: outside by {by:.3f}{alone}"
