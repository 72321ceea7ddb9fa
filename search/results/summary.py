"""What a held-out measurement allows to say, in plain sentences. Ours.

Nothing here is decided anew: every sentence repeats numbers of the record it is made from.
"""

from __future__ import annotations

from collections.abc import Mapping

from search.results.heldout_record import HeldOut
from search.scoring.bootstrap import Difference
from search.scoring.gap import MEAN, Gap


def statements(found: HeldOut, *, on_front: int) -> tuple[str, ...]:
    """Who judged, how large the gap is, and which points are apart from the pick.

    Args:
        found: the measurement, its own `statements` not needed.
        on_front: points of the front, of which `found` may have measured fewer.
    """
    return (*_judged(found), *_gap(found.gap[found.pick]), *_apart(found, on_front))


def _judged(found: HeldOut) -> tuple[str, ...]:
    both = found.agreement
    if both is None:
        return (
            f"One judge, {found.judge}, read all replies, and nobody has checked it; "
            "probes.heldout_judge names a second one.",
        )
    kappa = "undefined" if both.kappa is None else f"{both.kappa:.2f} ± {both.kappa_stderr:.2f}"
    return (
        f"{found.judge} read the replies on held-out probes in place of {both.rater}: of {both.n} "
        f"different held-out replies they judge {100 * both.agreement:.1f} % alike "
        f"(Cohen's kappa {kappa}); {both.missed_refusals} only {both.rater} calls a refusal, "
        f"{both.false_refusals} only {found.judge}.",
    )


def _gap(gap: Mapping[str, Gap]) -> tuple[str, ...]:
    mean = gap[MEAN]
    axes = {axis: one for axis, one in gap.items() if axis != MEAN}
    widest = max(axes, key=lambda axis: axes[axis].value)
    where = "lower" if mean.value >= 0 else "higher"
    return (
        f"The pick's likelihood is {_points(abs(mean.value))} ± {_points(mean.stderr)} points "
        f"{where} on held-out than on search probes, mean of the axes; the widest gap is "
        f"{_points(axes[widest].value)} ± {_points(axes[widest].stderr)}, on {widest}.",
    )


def _apart(found: HeldOut, on_front: int) -> tuple[str, ...]:
    told: list[str] = []
    same: list[str] = []
    for number, axes in found.against_pick.items():
        apart = {axis: one for axis, one in axes.items() if one.apart}
        if apart:
            told.append(_one_apart(number, apart, tuple(axes.keys() - apart.keys())))
        else:
            same.append(str(number))
    if same:
        noun = "trial" if len(same) == 1 else "trials"
        told.append(f"Not apart from the pick on any axis: {noun} {', '.join(same)}.")
    comparisons = sum(len(axes) for axes in found.against_pick.values())
    if comparisons:
        told.append(
            f"Apart means that the 95 % interval of a paired bootstrap leaves out 0; of "
            f"{comparisons} comparisons about {comparisons / 20:.1f} would by chance alone."
        )
    else:
        told.append("The pick is the only point of the front, so there is nothing to tell apart.")
    if on_front > len(found.front):
        told.append(f"{len(found.front)} of the front's {on_front} points were measured.")
    return tuple(told)


def _one_apart(number: int, apart: Mapping[str, Difference], rest: tuple[str, ...]) -> str:
    found = ", ".join(
        f"{axis} {_signed(one.value)} points ({_signed(one.low)} to {_signed(one.high)})"
        for axis, one in apart.items()
    )
    alike = f"; not on {', '.join(sorted(rest))}" if rest else ""
    return f"Trial {number} is apart from the pick: {found}{alike}."


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}"
