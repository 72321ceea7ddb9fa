"""The regulariser that the code of H3Fusion has in place of `drift_loss`.

    R = 1 / L  sum over experts e of gamma_e  sum over the matrices W of expert e of ||W||_2,

with L the number of layers (custom_trainer.py of Tekin et al. 2024, 2411.17792). It is not 0 at the
start, and pulls experts towards 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def norm_loss(experts: Sequence[Tensor], layers: int, gammas: Sequence[float]) -> Tensor:
    """Weighted norms of the experts' matrices.

    Args:
        experts: parameters, each (E, ., .); those of gate and up lie one after the other in (E,
            2 inner, hidden), by which they are told from down (E, hidden, inner).
        layers: L.
        gammas: E numbers, at least 0.

    Returns:
        A scalar, float32.
    """
    weights = torch.tensor(gammas, device=experts[0].device)
    norms = []
    for pair, down in zip(experts[::2], experts[1::2], strict=True):
        norms += [matrix.float().flatten(1).norm(dim=1) for matrix in (*pair.chunk(2, dim=1), down)]
    return (weights * torch.stack(norms).sum(dim=0)).sum() / layers
