"""A held-out measurement in plain sentences, each of which repeats numbers of its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search.results.heldout_record import HeldOut
from search.scoring.bootstrap import Difference
from search.scoring.generalization_gap import MEAN, Gap


def statements(heldout: HeldOut, *, on_front: int) -> tuple[str, ...]:
    """Who judged, how large the gap is, and which of `on_front` points differ from the pick."""
    return _judged(heldout), _gap(heldout.gap[heldout.pick]), *_apart(heldout, on_front)


def _judged(heldout: HeldOut) -> str:
    both = heldout.agreement
    if both is None:
        return (
            f"One judge, {heldout.judge}, read all replies, and nobody has checked it; "
            "probes.heldout_judge names a second one."
        )
    kappa = "undefined" if both.kappa is None else f"{both.kappa:.2f} ± {both.kappa_stderr:.2f}"
    return (
        f"{heldout.judge} read the replies on held-out probes in place of {both.rater}: "
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
        f"The pick's likelihood is {_points(abs(mean.value))} ± {_points(mean.stderr)} points "
        f"{where} on held-out than on search probes, mean of the axes; the widest gap is "
        f"{_points(axes[widest].value)} ± {_points(axes[widest].stderr)}, on {widest}."
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
            f"Apart means that the 95 % interval of a paired bootstrap leaves out 0; of "
            f"{comparisons} comparisons about {comparisons / 20:.1f} would by chance alone."
        )
    else:
        sentences.append(
            "The pick is the only point of the front, so there is nothing to tell apart."
        )
    if on_front > len(heldout.front):
        sentences.append(f"{len(heldout.front)} of the front's {on_front} points were measured.")
    return sentences


def _trial_apart(number: int, apart: Mapping[str, Difference], rest: Sequence[str]) -> str:
    differences = ", ".join(
        f"{axis} {_signed(d.value)} points ({_signed(d.low)} to {_signed(d.high)})"
        for axis, d in apart.items()
    )
    alike = f"; not on {', '.join(rest)}" if rest else ""
    return f"Trial {number} is apart from the pick: {differences}{alike}."


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}"
