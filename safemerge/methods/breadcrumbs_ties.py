"""Model Breadcrumbs with a sign consensus: what breadcrumbs.py keeps, merged as ties.py merges it.

Source: mergekit's `breadcrumbs_ties` (methods.md 4.5, 4.8). Normalising is off by default there.
"""

from __future__ import annotations

from dataclasses import replace

from safemerge.methods import breadcrumbs, ties

METHOD = replace(
    breadcrumbs.METHOD,
    name="breadcrumbs_ties",
    source="2312.06795 with 2306.01708; methods.md 4.5, 4.8",
    weigh=ties.weigh,
    combine=ties.combine,
)
