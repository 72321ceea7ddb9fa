"""R-TSVM: RESM's name in versions 1 and 2 of its paper, Yang et al. 2025 (2502.06876).

Their abstracts describe TSV-M with outlier-aware weights and sparsity-adaptive ranks, and count
outliers as something to mitigate. Of resm.py that is the mode "suppress", which weights sources by
their outliers and gives less to those with more. The paper's formula was not available to us.
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
