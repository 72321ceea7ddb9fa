"""A held-out measurement in plain sentences, each of which repeats numbers of its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search.metrics import Limits
from search.results.heldout_record import HeldOut
from search.results.standing import against
from search.scoring.generalization_gap import MEAN, Gap
from search.scoring.paired_differences import Difference


def statements(heldout: HeldOut, limits: Limits, *, on_front: int) -> tuple[str, ...]:
    """Who judged, how large the gap is, which of `on_front` points differ, who keeps the limits.

    `limits` are relative to the held-out rates of base and sources.
    """
    return (
        _judged(heldout),
        _gap(heldout.gap[heldout.pick]),
        *_apart(heldout, on_front),
        *_limits(heldout, limits),
    )


def shown_judge(judge: str) -> str:
    """The judges of a table; `phrases` is called what it is."""
    told = "phrases (for smoke tests and models of known phrasing)"
    return " and ".join(told if name == "phrases" else name for name in judge.split(" and "))


def _judged(heldout: HeldOut) -> str:
    both, judge = heldout.agreement, shown_judge(heldout.judge)
    if both is None:
        return (
            f"One judge, {judge}, read all replies, and nobody has checked it; "
            "probes.heldout_judge names a second one."
        )
    kappa = "undefined" if both.kappa is None else f"{both.kappa:.2f} ± {both.kappa_stderr:.2f}"
    return (
        f"{judge} read the replies on held-out probes in place of {both.rater}: "
        f"of {both.n} different held-out replies they judge {100 * both.agreement:.1f} % alike "
        f"(Cohen's kappa {kappa}); {both.missed_refusals} only {both.rater} calls a refusal, "
        f"{both.false_refusals} only {heldout.judge}."
    )


def _gap(gaps: Mapping[str, Gap]) -> str:
    mean = gaps[MEAN]
    axes = {axis: gap for axis, gap in gaps.items() if axis != MEAN}
    widest = max(axes, key=lambda axis: axes[axis].value)
    where = "lower" if mean.value >= 0 else "higher"
    return (
        f"The pick's likelihood, a number from 0 to 1, is {abs(mean.value):.3f} ± "
        f"{mean.stderr:.3f} {where} on held-out than on search probes, mean of the axes; the "
        f"widest gap of {len(axes)} is {axes[widest].value:.3f} ± {axes[widest].stderr:.3f}, on "
        f"{widest}."
    )


def _apart(heldout: HeldOut, on_front: int) -> list[str]:
    sentences: list[str] = []
    same: list[str] = []
    for number, axes in heldout.against_pick.items():
        apart = {axis: difference for axis, difference in axes.items() if difference.apart}
        if apart:
            sentences.append(_trial_apart(number, apart, sorted(axes.keys() - apart.keys())))
        else:
            same.append(str(number))
    if same:
        noun = "trial" if len(same) == 1 else "trials"
        sentences.append(f"Not apart from the pick on any axis: {noun} {', '.join(same)}.")
    comparisons = sum(len(axes) for axes in heldout.against_pick.values())
    if comparisons:
        sentences.append(
            f"Apart is what McNemar's test (mid-p) tells apart at 5 % over all {comparisons} "
            "comparisons together (Holm); an interval is of its own comparison alone, at 95 %."
        )
    else:
        sentences.append(
            "The pick is the only point of the front, so there is nothing to tell apart."
        )
    if on_front > len(heldout.front):
        sentences.append(f"{len(heldout.front)} of the front's {on_front} points were measured.")
    return sentences


def _limits(heldout: HeldOut, limits: Limits) -> list[str]:
    if not limits.limits:
        return []
    missed = against(limits, heldout.rows["search"])
    if missed:
        held = f"are outside its limits: {'; '.join(missed.values())}."
    else:
        held = "are outside none of its limits by more than one standard error."
    sentences = [f"Held-out replies of the pick {held}"]
    mark = heldout.outside.get("search")
    if mark and not missed:
        sentences.append(f"When it was picked it was {mark}, as no trial that was asked is within.")
    return sentences


def _trial_apart(number: int, apart: Mapping[str, Difference], rest: Sequence[str]) -> str:
    differences = ", ".join(
        f"{axis} {_signed(d.value)} points ({_signed(d.low)} to {_signed(d.high)})"
        for axis, d in apart.items()
    )
    alike = f"; not on {', '.join(rest)}" if rest else ""
    return f"Trial {number} is apart from the pick: {differences}{alike}."


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}"
