"""Model Breadcrumbs with a sign consensus: what breadcrumbs.py keeps, merged as ties.py merges it.

Source: mergekit's `breadcrumbs_ties` (methods.md 4.5, 4.8). Normalising is off by default there.
"""

from __future__ import annotations

from safemerge.methods import breadcrumbs, ties
from safemerge.methods.base import Method
from safemerge.methods.deltas import bytes_of_deltas, keep_deltas
from safemerge.methods.sparse import TrimParams

METHOD = Method(
    name="breadcrumbs_ties",
    source="2312.06795 with 2306.01708; methods.md 4.5, 4.8",
    params=TrimParams,
    prepare=keep_deltas,
    select=breadcrumbs.select,
    weigh=ties.weigh,
    combine=ties.combine,
    entrywise=("deltas",),
    footprint=bytes_of_deltas,
    per_source=breadcrumbs.METHOD.per_source,
)
