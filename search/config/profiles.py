"""Profiles of the search space: a few numbers, expanded to a value for every place group.

| profile            | numbers for one quantity, such as the weight of one source                |
| ------------------ | ------------------------------------------------------------------------- |
| of place groups    | one for each group (`safemerge.names`)                                    |
| points(k)          | one at each of k points over the layers, straight lines between them      |
| kernel             | peak, floor, position and width: a triangle over the layers, on a floor   |

`+kind` and `+module` give `points(k)` and `kernel` numbers of their own to each kind or module.
What lies outside the stack has one number for each place group. The kernel is ours, after an idea
of the program heretic. Position and width count layers: between two layers nothing would change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from safemerge.errors import ConfigError, RecipeError
from safemerge.names import check_profile, depth_order, groups, place_of

Matrix = NDArray[np.float64]

_CURVE = re.compile(r"^(?:points\((?P<k>\d+)\)|kernel)(?P<split>\+kind|\+module)?$")
_PLACES = {None: "layers", "+kind": "layers+kind", "+module": "modules"}


def valid_space_profile(profile: str) -> str:
    """Return the profile, or a ValueError, which pydantic takes, with the known forms."""
    match = _CURVE.match(profile)
    try:
        if match is None:
            return check_profile(profile)
    except RecipeError as error:
        raise ValueError(
            f"{error}; in a search also points(k) and kernel, alone or with +kind or +module"
        ) from error
    if match["k"] is not None and int(match["k"]) < 2:
        raise ValueError(f"the profile {profile!r} needs at least two points; for one, use global")
    return profile


def recipe_places(profile: str) -> str:
    """The profile of place groups that recipes of a space profile are written in."""
    match = _CURVE.match(profile)
    return profile if match is None else _PLACES[match["split"]]


@dataclass(frozen=True, slots=True)
class Column:
    """Place groups whose values are mixed from the same few numbers.

    Args:
        groups: by depth.
        knots: names of the numbers that are in the range of the quantity itself.
        mix: (n_groups, n_knots), shares of the knots in each group, rows of sum 1; before these,
            one axis for each entry of `whole`.
        whole: `{name: (low, high)}`, whole numbers that choose along the first axes of `mix`.
    """

    groups: tuple[str, ...]
    knots: tuple[str, ...]
    mix: Matrix
    whole: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """All numbers: knots, then whole ones."""
        return (*self.knots, *self.whole)

    def expand(self, numbers: Mapping[str, float], *, log: bool = False) -> dict[str, float]:
        """`{group: value}` from the numbers; on a log scale where `log` is set."""
        knots = [numbers[knot] for knot in self.knots]
        if len(knots) == 1:  # as it is, to the last bit
            return dict.fromkeys(self.groups, knots[0])
        at = tuple(int(numbers[name]) - low for name, (low, _) in self.whole.items())
        values = self.mix[at] @ (np.log(knots) if log else np.asarray(knots))
        return dict(zip(self.groups, (np.exp(values) if log else values).tolist(), strict=True))

    def fit(
        self, values: Mapping[str, float], low: float, high: float, *, log: bool = False
    ) -> dict[str, float]:
        """The numbers, knots in [low, high], whose `expand` is nearest to values of the groups.

        Nearest in least squares before knots are clamped; what `expand` has made of knots in the
        range comes back to rounding.
        """
        wanted = np.array([values[group] for group in self.groups])
        if len(self.knots) == 1 and (wanted == wanted[0]).all():
            return {self.knots[0]: min(max(wanted[0].item(), low), high)}
        ends = np.array([low, high])
        wanted, ends = (np.log(wanted), np.log(ends)) if log else (wanted, ends)
        knots = np.clip(_inverse(self) @ wanted, *ends)  # (..., n_knots)
        misses = np.square((self.mix @ knots[..., None])[..., 0] - wanted).sum(axis=-1)
        best = np.unravel_index(int(misses.argmin()), misses.shape)
        found = np.clip(np.exp(knots[best]), low, high) if log else knots[best]
        numbers = dict(zip(self.knots, found.tolist(), strict=True))
        offsets = zip(self.whole.items(), best, strict=True)
        return numbers | {name: first + int(index) for (name, (first, _)), index in offsets}

    def basis(self) -> Matrix:
        """`mix` at the middle position and the largest width, (n_groups, n_knots)."""
        if not self.whole:
            return self.mix
        middle: Matrix = self.mix[(len(self.groups) - 1) // 2, -1]
        return middle


def columns(
    profile: str, places: str, tensors: Sequence[str], within: frozenset[str]
) -> tuple[Column, ...]:
    """The columns of a profile, outside of the stack first.

    Args:
        profile: of the space.
        places: profile of the recipe's place groups.
        tensors: all merged tensors.
        within: place groups that have the quantity; the others are left out.

    Raises:
        ConfigError: where a place group would need two values, as the profile is finer.
    """
    match = _CURVE.match(profile)
    owners = groups(tensors, places)
    if match is None:
        return _constant(profile, owners, within)
    found: dict[str, dict[int, str]] = {}
    outside: dict[str, None] = {}
    for name, group in owners.items():
        place = place_of(name)
        label = {None: "", "+kind": f".{place.kind}", "+module": f".{place.module}"}[match["split"]]
        if group not in within:
            continue
        if place.layer is None:
            outside[group] = None
        else:
            found.setdefault(label, {})[place.layer] = group
    curves = [
        _curve(label, tuple(by_layer[layer] for layer in sorted(by_layer)), match["k"])
        for label, by_layer in sorted(found.items())
    ]
    return (*(_level(g, (g,)) for g in sorted(outside, key=depth_order)), *curves)


def _constant(
    profile: str, owners: Mapping[str, str], within: frozenset[str]
) -> tuple[Column, ...]:
    """One number for each group of a profile that is as coarse as the recipe's, or coarser."""
    coarse: dict[str, str] = {}
    for name, wide in groups(owners, profile).items():
        if coarse.setdefault(owners[name], wide) != wide:
            raise ConfigError(
                f"the profile {profile!r} is finer than space.places: it gives several values to "
                f"the place group {owners[name]!r}; choose a coarser one, or finer places"
            )
    members: dict[str, list[str]] = {}
    for group in sorted(within, key=depth_order):
        members.setdefault(coarse[group], []).append(group)
    return tuple(_level(g, tuple(members[g])) for g in sorted(members, key=depth_order))


def _level(knot: str, members: tuple[str, ...]) -> Column:
    return Column(members, (knot,), np.ones((len(members), 1)))


def _curve(label: str, members: tuple[str, ...], points: str | None) -> Column:
    """Points or a kernel over the layers of one column; a single layer needs but a number."""
    depth = len(members)
    if depth == 1:
        return _level(members[0], members)
    if points is None:
        peak, floor, position, width = (
            f"kernel{label}.{number}" for number in ("peak", "floor", "position", "width")
        )
        whole = {position: (0, depth - 1), width: (1, depth)}
        return Column(members, (peak, floor), _triangles(depth), whole)
    count = min(int(points), depth)  # more could not be told apart
    return Column(members, tuple(f"point.{i}{label}" for i in range(count)), _lines(depth, count))


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


def _inverse(column: Column) -> Matrix:
    """Pseudo-inverse of `mix` along its last two axes."""
    return _triangle_inverses(len(column.groups)) if column.whole else _pinv(column.mix)


@lru_cache(maxsize=4)
def _triangle_inverses(depth: int) -> Matrix:
    return _pinv(_triangles(depth))


def _pinv(mix: Matrix) -> Matrix:
    return np.asarray(np.linalg.pinv(mix), dtype=np.float64)
