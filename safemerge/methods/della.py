"""DELLA: what della_linear.py keeps, merged by sign consensus as ties.py merges it.

Source: Deep et al. 2024 (2406.11617), in mergekit's form, which normalises by default.
"""

from __future__ import annotations

from dataclasses import replace

from safemerge.methods import della_linear, ties
from safemerge.methods.common.sparse import DropParams


class DellaParams(DropParams):
    """See `DropParams`."""

    normalize: bool = True


METHOD = replace(
    della_linear.METHOD,
    name="della",
    params=DellaParams,
    weigh=ties.weigh,
    combine=ties.combine,
)
