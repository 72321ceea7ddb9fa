"""What dare_linear.py keeps, merged by sign consensus as ties.py merges it.

Source: mergekit's `dare_ties` (2311.03099 with 2306.01708), which does not normalise.
"""

from __future__ import annotations

from dataclasses import replace

from safemerge.methods import dare_linear, ties

METHOD = replace(dare_linear.METHOD, name="dare_ties", weigh=ties.weigh, combine=ties.combine)
