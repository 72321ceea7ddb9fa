"""Model Breadcrumbs with a sign consensus: what breadcrumbs.py keeps, merged as ties.py merges it.

Source: mergekit's `breadcrumbs_ties`, of Davari and Belilovsky 2023 (2312.06795) and Yadav et al.
2023 (2306.01708). Normalising is off by default there.
"""

from __future__ import annotations

from dataclasses import replace

from safemerge.methods import breadcrumbs, ties

METHOD = replace(
    breadcrumbs.METHOD, name="breadcrumbs_ties", weigh=ties.weigh, combine=ties.combine
)
