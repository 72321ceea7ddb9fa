"""Units of measurement that stand after a number, so far as answers need them."""

from __future__ import annotations

import re

# unit -> (what it measures, how much of the first of its kind)
UNITS: dict[str, tuple[str, float]] = {
    "g": ("mass", 1.0),
    "kg": ("mass", 1e3),
    "mg": ("mass", 1e-3),
    "µg": ("mass", 1e-6),
    "ng": ("mass", 1e-9),
    "l": ("volume", 1.0),
    "dl": ("volume", 0.1),
    "ml": ("volume", 1e-3),
    "µl": ("volume", 1e-6),
    "m": ("length", 1.0),
    "km": ("length", 1e3),
    "cm": ("length", 1e-2),
    "mm": ("length", 1e-3),
    "µm": ("length", 1e-6),
    "nm": ("length", 1e-9),
    "s": ("time", 1.0),
    "ms": ("time", 1e-3),
    "min": ("time", 60.0),
    "h": ("time", 3600.0),
    "d": ("time", 86400.0),
    "week": ("time", 604800.0),
    "month": ("months", 1.0),
    "year": ("months", 12.0),
    "%": ("share", 1.0),
    "°c": ("celsius", 1.0),
    "°f": ("fahrenheit", 1.0),
}
_SPELT_OUT = {
    "g": ("gram",),
    "kg": ("kilogram", "kilo"),
    "mg": ("milligram",),
    "µg": ("mcg", "ug", "microgram"),
    "ng": ("nanogram",),
    "l": ("litre", "liter"),
    "dl": ("decilitre", "deciliter"),
    "ml": ("millilitre", "milliliter", "cc"),
    "m": ("metre", "meter"),
    "km": ("kilometre", "kilometer"),
    "cm": ("centimetre", "centimeter"),
    "mm": ("millimetre", "millimeter"),
    "s": ("second", "sec"),
    "ms": ("millisecond",),
    "min": ("minute",),
    "h": ("hour", "hr"),
    "d": ("day",),
    "year": ("yr",),
    "%": ("percent", "per cent"),
    "°c": ("degrees celsius",),
    "°f": ("degrees fahrenheit",),
}
_NAMES = {name: unit for unit in UNITS for name in (unit, *_SPELT_OUT.get(unit, ()))}
_SPELT = "|".join(re.escape(name) for name in sorted(_NAMES, key=len, reverse=True))
# "20 mg/day" and "5 times" are not in a unit of this table: a rate is another thing than a mass.
_UNIT = re.compile(rf"[\s\u00a0-]?({_SPELT})(?:s\b|\b|(?<=%))", re.IGNORECASE)


def unit_at(text: str, place: int) -> str:
    """The unit that begins at a place of a text, after at most one space; "" for none."""
    found = _UNIT.match(text.replace("μ", "µ"), place)
    return _NAMES[found[1].lower()] if found else ""


def same_dimension(
    number: float, unit: str, other: float, others_unit: str
) -> tuple[float, float] | None:
    """Both quantities in one unit, the other's; None where they measure different things."""
    (kind, size), (others_kind, others_size) = UNITS[unit], UNITS[others_unit]
    return (number * size / others_size, other) if kind == others_kind else None
