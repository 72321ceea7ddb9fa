"""R-TSVM: the named preset of RESM that an earlier version of its paper describes.

Source: ours, after the abstracts of 2502.06876v1 and v2 (methods.md 1.1): TSV-M with outlier-aware
weights and sparsity-adaptive ranks, where outliers are something to mitigate. Of RESM-ref that is
the mode that weights sources by their outliers and gives less to those with more, "suppress";
clipping would mitigate too, but weights nothing. Ranks follow density unless a recipe gives a
ratio. Whether the paper's formula is this one could not be read.
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
    source="ours (RESM-ref, methods.md 1.3), after 2502.06876v1 and v2",
    params=RTsvmParams,
)
