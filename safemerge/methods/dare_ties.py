"""DARE with a sign consensus: what dare_linear.py keeps, merged as ties.py merges it.

Source: mergekit's `dare_ties`, of Yu et al. 2023 (2311.03099) and Yadav et al. 2023 (2306.01708).
Normalising is off by default there.
"""

from __future__ import annotations

from dataclasses import replace

from safemerge.methods import dare_linear, ties

METHOD = replace(dare_linear.METHOD, name="dare_ties", weigh=ties.weigh, combine=ties.combine)
