"""R-TSVM: RESM's name in versions 1 and 2 of its paper, Yang et al. 2025 (2502.06876).

Their abstracts describe TSV-M with outlier-aware weights and sparsity-adaptive ranks, and count
outliers as something to mitigate. In resm.py that is the mode "suppress", which gives less weight
to sources with more outliers. It is a reading of the abstracts, not the paper's formula.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from safemerge.methods import resm


class RTsvmParams(resm.ResmParams):
    """Parameters of RESM with another default for `outliers`."""

    outliers: Literal["none", "favour", "suppress", "clip"] = "suppress"


METHOD = replace(
    resm.METHOD,
    name="r_tsvm",
    params=RTsvmParams,
)
