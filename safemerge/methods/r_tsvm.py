"""R-TSVM: RESM's name in versions 1 and 2 of its paper, Yang et al. 2025 (2502.06876).

Their abstracts count outliers as something to mitigate: in resm.py, the mode "suppress".
"""

from __future__ import annotations

from dataclasses import replace

from safemerge.methods import resm


class RTsvmParams(resm.ResmParams):
    """See `ResmParams`."""

    outliers: resm.Outliers = "suppress"


METHOD = replace(resm.METHOD, name="r_tsvm", params=RTsvmParams)
