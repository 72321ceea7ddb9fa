"""Knots: a few parameters, and the value they give every place group of a profile.

Profiles of place groups have one for each group. `points(k)` has one at each of k points over the
layers, with straight lines between; `kernel`, after heretic (github.com/p-e-w/heretic), has peak,
floor, position and width: a triangle over the layers, on a floor. `+kind` and `+module` give these
two parameters of their own to each kind or module. What lies outside the stack has one parameter
for each place group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from safemerge.errors import ConfigError
from safemerge.names import depth_order, groups, place_of
from search.config.profiles import match_curve
from search.space.parameter import Parameter, Point

Matrix = NDArray[np.float64]

_ROUNDING = 1e-9  # of a fit, as a share of the range: what is nearer to 0 is 0


@dataclass(frozen=True, slots=True)
class Knots:
    """Place groups whose values are a basis times a few parameters, the knots."""

    groups: tuple[str, ...]  # by depth
    names: tuple[str, ...]  # of the knots, as parameters of the space
    basis: Matrix  # (..., n_groups, n_knots), shares of the knots in each group, rows of sum 1
    parameter: Parameter  # the range of every knot
    # parameters that choose along the first axes of `basis`
    integers: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Parameter]:
        """`{name: parameter}`: knots, then integers."""
        return {**dict.fromkeys(self.names, self.parameter), **self.integers}

    def expand(self, point: Point) -> dict[str, float]:
        """`{group: value}` at a point."""
        knots = [max(float(point[name]), self.parameter.least) for name in self.names]
        if len(knots) == 1:  # as it is, to the last bit
            return dict.fromkeys(self.groups, self.parameter.nearest(knots[0]))
        chosen = tuple(int(point[name]) - int(p.low) for name, p in self.integers.items())
        log = self.parameter.log
        values = self.basis[chosen] @ (np.log(knots) if log else np.asarray(knots))
        values = (np.exp(values) if log else values).tolist()
        return dict(zip(self.groups, map(self.parameter.nearest, values), strict=True))

    def fit(self, values: Mapping[str, float]) -> dict[str, float]:
        """The part of a point whose `expand` is nearest to values, in least squares, then clamped.

        A knot at 0 is put in the middle of the tail that stands for 0: what is drawn near it is 0.
        """
        low, high = self.parameter.least, self.parameter.high
        wanted = np.array([values[group] for group in self.groups])
        if len(self.names) == 1 and (wanted == wanted[0]).all():
            point = {self.names[0]: min(max(wanted[0].item(), low), high)}
        else:
            point = self._least_squares(wanted, low, high)
        if self.parameter.zero_tail:
            for name in self.names:
                if point[name] <= _ROUNDING * high:
                    point[name] = 0.5 * self.parameter.low
        return point

    def _least_squares(self, wanted: Matrix, low: float, high: float) -> dict[str, float]:
        ends = np.array([low, high])
        log = self.parameter.log
        wanted, ends = (np.log(wanted), np.log(ends)) if log else (wanted, ends)
        depth = len(self.groups)
        inverse = _triangle_inverses(depth) if self.integers else np.linalg.pinv(self.basis)
        knots = np.clip(inverse @ wanted, *ends)  # (..., n_knots)
        misses = np.square((self.basis @ knots[..., None])[..., 0] - wanted).sum(axis=-1)
        best = np.unravel_index(int(misses.argmin()), misses.shape)
        fitted = np.clip(np.exp(knots[best]), low, high) if log else knots[best]
        integers = {
            name: int(parameter.low) + int(index)
            for (name, parameter), index in zip(self.integers.items(), best, strict=True)
        }
        return dict(zip(self.names, fitted.tolist(), strict=True)) | integers

    def middle_basis(self) -> Matrix:
        """`basis` at the middle position and the largest width, (n_groups, n_knots)."""
        if not self.integers:
            return self.basis
        middle: Matrix = self.basis[(len(self.groups) - 1) // 2, -1]
        return middle


def expand(blocks: Sequence[Knots], point: Point) -> dict[str, float]:
    """`{group: value}` of a quantity at a point."""
    return dict(chain.from_iterable(block.expand(point).items() for block in blocks))


def knots(
    profile: str,
    name: str,
    parameter: Parameter,
    within: frozenset[str],
    *,
    tensors: Sequence[str],
    places: str,
) -> tuple[Knots, ...]:
    """The knots of one quantity, outside of the stack first.

    Args:
        profile: of the space.
        name: of a parameter, with `{}` for its knot, such as `{}:medic`.
        parameter: range of every knot.
        within: place groups that have the quantity.
        tensors: all merged tensors.
        places: profile of the recipe's place groups, no coarser than `profile`.
    """

    def level(knot: str, members: tuple[str, ...]) -> Knots:
        return Knots(members, (name.format(knot),), np.ones((len(members), 1)), parameter)

    def curve(label: str, members: tuple[str, ...], points: str | None) -> Knots:
        """Points or a kernel over the layers; a single layer has but one parameter."""
        depth = len(members)
        if depth == 1:
            return level(members[0], members)
        if points is not None:
            count = min(int(points), depth)  # more could not be told apart
            names = tuple(name.format(f"point.{i}{label}") for i in range(count))
            return Knots(members, names, _lines(depth, count), parameter)
        peak, floor, position, width = (
            name.format(f"kernel{label}.{part}") for part in ("peak", "floor", "position", "width")
        )
        integers = {
            position: Parameter(0, depth - 1, integer=True),
            width: Parameter(1, depth, integer=True),
        }
        return Knots(members, (peak, floor), _triangles(depth), parameter, integers)

    owners = groups(tensors, places)
    match = match_curve(profile)
    if match is None:
        by_knot = _coarse(profile, owners, within)
        return tuple(level(g, tuple(by_knot[g])) for g in sorted(by_knot, key=depth_order))
    layers: dict[str, dict[int, str]] = {}
    outside: set[str] = set()
    for tensor, group in owners.items():
        place = place_of(tensor)
        label = {None: "", "+kind": f".{place.kind}", "+module": f".{place.module}"}[match["split"]]
        if group not in within:
            continue
        if place.layer is None:
            outside.add(group)
        else:
            layers.setdefault(label, {})[place.layer] = group
    return (
        *(level(group, (group,)) for group in sorted(outside, key=depth_order)),
        *(
            curve(label, tuple(group for _, group in sorted(by_layer.items())), match["k"])
            for label, by_layer in sorted(layers.items())
        ),
    )


def _coarse(
    profile: str, owners: Mapping[str, str], within: frozenset[str]
) -> dict[str, list[str]]:
    """The recipe's groups by depth, by the group of a profile that is as coarse or coarser."""
    coarse: dict[str, str] = {}
    for tensor, wide in groups(owners, profile).items():
        if coarse.setdefault(owners[tensor], wide) != wide:
            raise ConfigError(
                f"the profile {profile!r} is finer than space.places: it gives several values to "
                f"the place group {owners[tensor]!r}; choose a coarser one, or finer places"
            )
    members: dict[str, list[str]] = {}
    for group in sorted(within, key=depth_order):
        members.setdefault(coarse[group], []).append(group)
    return members


def _lines(depth: int, count: int) -> Matrix:
    """Shares of evenly spaced points in each layer, (depth, count)."""
    at = np.arange(depth)[:, None] * (count - 1) / (depth - 1)
    return np.maximum(0.0, 1.0 - np.abs(at - np.arange(count)))


@lru_cache(maxsize=4)
def _triangles(depth: int) -> Matrix:
    """Shares of peak and floor, (position, width - 1, layer, 2)."""
    layers = np.arange(depth)
    away = np.abs(layers[:, None, None] - layers)  # (position, 1, layer)
    peak = np.maximum(0.0, 1.0 - away / (layers[:, None] + 1))
    return np.stack([peak, 1.0 - peak], axis=-1)


@lru_cache(maxsize=4)
def _triangle_inverses(depth: int) -> Matrix:
    return np.asarray(np.linalg.pinv(_triangles(depth)), dtype=np.float64)
