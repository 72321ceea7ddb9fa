"""DELLA: what della_linear.py keeps, merged by sign consensus as ties.py merges it.

Source: 2406.11617, in mergekit's form `della` (methods.md 4.5, 4.7), which normalises by default.
"""

from __future__ import annotations

from safemerge.methods import dare_ties, della_linear
from safemerge.methods.common.base import Method
from safemerge.methods.common.draws import bytes_of_masks
from safemerge.methods.common.sparse import DropParams


class DellaParams(DropParams):
    """Parameters of DELLA; see `DropParams`."""

    normalize: bool = True


METHOD = Method(
    name="della",
    source="2406.11617; methods.md 4.5, 4.7",
    params=DellaParams,
    prepare=della_linear.METHOD.prepare,
    select=della_linear.select,
    weigh=dare_ties.weigh,
    combine=dare_ties.combine,
    entrywise=("deltas", "keep"),
    footprint=bytes_of_masks,
    per_source=della_linear.METHOD.per_source,
    prepare_key=della_linear.METHOD.prepare_key,
    seeded=True,
)
