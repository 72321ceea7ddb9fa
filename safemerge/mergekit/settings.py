"""mergekit's parameter settings: a number, a gradient over depth, or a list of cases by filter.

    weight: 0.5                                  the same everywhere
    weight: [0, 0.5, 1]                          interpolated over the layers of a slice
    weight:
      - {filter: self_attn, value: [0, 1]}       the first case whose filter is part of the
      - {value: 0.5}                             tensor's name counts

Facts of mergekit 0.1.5, found by running and reading it: depth is (layer - first) / (layers - 1)
within a slice, and 1 in a slice of one layer; tensors outside the stack have depth 0, those before
it in the first slice and those after it in the last (earlier versions gave the latter depth 1); a
flag in a gradient is chosen, not interpolated; where no case matches, the next wider scope counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from safemerge.errors import RecipeError

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a setting."""

    filter: str | None  # part of the names of the tensors it is for; None for all
    values: tuple[Scalar, ...]  # one value, or a gradient over depth

    def matches(self, tensor: str) -> bool:
        """Whether the tensor is one of those meant."""
        return self.filter is None or self.filter in tensor

    def at(self, depth: float) -> Scalar:
        """The value at a depth in [0, 1]."""
        position = depth * (len(self.values) - 1)
        below = int(position)
        first, second = self.values[below], self.values[min(below + 1, len(self.values) - 1)]
        if isinstance(first, (bool, str)) or isinstance(second, (bool, str)):
            return first
        share = position - below
        return (1.0 - share) * first + share * second if share else first


Setting = tuple[Case, ...]
Settings = dict[str, Setting]


def evaluate(setting: Setting, tensor: str, depth: float) -> Scalar | None:
    """The value for a tensor at a depth in [0, 1], or None where no case matches."""
    return next((case.at(depth) for case in setting if case.matches(tensor)), None)


def parse_setting(value: object, where: str) -> Setting:
    """Read a setting, one of the three forms at the top of this file, from plain values."""
    if isinstance(value, dict):
        return (_case(value, where),)
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return tuple(_case(item, f"{where}[{i}]") for i, item in enumerate(value))
    return (Case(None, _values(value, where)),)


def plain(setting: Setting) -> object:
    """A setting as plain values, which `parse_setting` reads."""

    def values(case: Case) -> object:
        return case.values[0] if len(case.values) == 1 else list(case.values)

    if len(setting) == 1 and setting[0].filter is None:
        return values(setting[0])
    return [
        ({} if case.filter is None else {"filter": case.filter}) | {"value": values(case)}
        for case in setting
    ]


def _case(record: dict[str, object], where: str) -> Case:
    unknown = sorted(record.keys() - {"filter", "value"})
    if unknown or "value" not in record:
        got = f"has the key {unknown[0]!r}" if unknown else "has no value"
        raise RecipeError(f"{where} {got}; a case is {{filter: part of a name, value: number}}")
    part = record.get("filter")
    if part is not None and not isinstance(part, str):
        raise RecipeError(f"{where}.filter is {part!r}, not text; put it in quotes")
    return Case(None if part in (None, "*") else part, _values(record["value"], f"{where}.value"))


def _values(value: object, where: str) -> tuple[Scalar, ...]:
    items = value if isinstance(value, list) else [value]
    if not items:
        raise RecipeError(f"{where} is an empty list; give a number, or numbers over depth")
    for item in items:
        if not isinstance(item, (bool, int, float, str)):
            raise RecipeError(
                f"{where} is {item!r:.60}; a setting is a number, a list of numbers over depth, "
                "or a list of {filter, value}"
            )
        if isinstance(item, float) and not math.isfinite(item):
            raise RecipeError(f"{where} is {item}, not finite")
    return tuple(items)


def write_setting(values: Mapping[str, float]) -> object:
    """One number, or a list of cases, in plain values, that gives every tensor its value."""
    common = Counter(values.values()).most_common(1)[0][0]
    beginnings = [(start, value) for start, value in _beginnings(values) if value != common]
    if not beginnings:
        return common
    # A longer filter is the narrower one where a name holds another one.
    beginnings.sort(key=lambda case: -len(case[0]))
    cases = [{"filter": start, "value": value} for start, value in beginnings]
    cases.append({"value": common})
    setting = parse_setting(cases, "cases")
    if all(evaluate(setting, name, 0.0) == value for name, value in values.items()):
        return cases
    # Whole names, the longest first: the first that is part of a name is that name.
    names = sorted(values, key=lambda name: -len(name))
    return [{"filter": name, "value": values[name]} for name in names]


def _beginnings(values: Mapping[str, float], start: str = "") -> Iterator[tuple[str, float]]:
    """Shortest beginnings, at dots, whose tensors share a value: (beginning, value)."""
    if len(set(values.values())) == 1:
        yield start, next(iter(values.values()))
        return
    branches: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        part, dot, _ = name[len(start) :].partition(".")
        branches.setdefault(start + part + dot, {})[name] = value
    for beginning, part_values in branches.items():
        yield from _beginnings(part_values, beginning)
