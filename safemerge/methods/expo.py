"""ExPO: after a merge, go on in the direction in which alignment changed the weights.

Source: model extrapolation (ExPO), from documentation of SafeTune. With a the weight of the pair
(add_back.py), there 0.1 to 0.5 between a model tuned on preferences and the one it began from:

    theta = merge of the other sources + a (aligned - unaligned)
"""

from __future__ import annotations

from safemerge.methods.common.add_back import PairParams, pair_stage, whole

STAGE = pair_stage("expo", PairParams, matrix=whole, other=whole, key=lambda p: ())
