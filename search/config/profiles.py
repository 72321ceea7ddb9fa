"""Names of the profiles of a search space: `points(k)`, `kernel`, and those of place groups."""

from __future__ import annotations

import re

from safemerge.errors import RecipeError
from safemerge.names import check_profile

_CURVE = re.compile(r"^(?:points\((?P<k>\d+)\)|kernel)(?P<split>\+kind|\+module)?$")
_PLACES = {None: "layers", "+kind": "layers+kind", "+module": "modules"}


def match_curve(profile: str) -> re.Match[str] | None:
    """The parts `k` (None of a kernel) and `split` of a curve over depth; None of place groups."""
    return _CURVE.match(profile)


def valid_space_profile(profile: str) -> str:
    """Return the profile, or a ValueError, which pydantic takes, with the known forms."""
    match = match_curve(profile)
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
    match = match_curve(profile)
    return profile if match is None else _PLACES[match["split"]]
