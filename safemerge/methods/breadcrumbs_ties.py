"""What breadcrumbs.py keeps, merged by sign consensus as ties.py merges it.

Source: mergekit's `breadcrumbs_ties` (2312.06795 with 2306.01708), which does not normalise.
"""

from __future__ import annotations

from dataclasses import replace

from safemerge.methods import breadcrumbs, ties

METHOD = replace(
    breadcrumbs.METHOD, name="breadcrumbs_ties", weigh=ties.weigh, combine=ties.combine
)
