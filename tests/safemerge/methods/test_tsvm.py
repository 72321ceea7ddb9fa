"""TSV-M against the reference implementation and against SVDs written out."""

from pathlib import Path

import pytest
import torch
from examples import draw, merge, site
from safetensors.torch import load_file
from torch import Tensor

from safemerge.methods import METHODS, Selection

GOLDENS = Path(__file__).parents[2] / "data" / "goldens"


@pytest.mark.parametrize("case", ["0", "1", "2", "3"])
def test_it_equals_the_reference(case: str) -> None:
    golden = load_file(GOLDENS / "tsvm.safetensors")
    deltas = torch.stack([golden[f"{case}.delta.{i}"] for i in range(3)])
    merged = merge(METHODS["tsvm"], torch.zeros_like(deltas[0]), deltas, [1.0, 1.0, 1.0])
    # The reference takes its SVDs in float64; near full rank that shows in the fifth digit.
    torch.testing.assert_close(merged, golden[f"{case}.merged"], atol=5e-5, rtol=0)


def test_directions_of_different_sources_are_orthogonal() -> None:
    base, deltas = draw((24, 40))
    method = METHODS["tsvm"]
    params = method.parse({})
    state = method.prepare(base, deltas, params, site("abc"))
    assert method.select is not None
    chosen = method.select(state, Selection(), params)
    for side in ("left", "right"):
        gram = chosen[side].T @ chosen[side]
        torch.testing.assert_close(gram, torch.eye(24), atol=1e-4, rtol=0)


def by_svds(deltas: Tensor, weights: list[float], k: int) -> Tensor:
    """U_perp diag(w_i S_i) V_perp' in float64, with the polar factors from SVDs of U and V."""
    factors = [torch.linalg.svd(delta.double(), full_matrices=False) for delta in deltas]
    sides = [torch.cat([u[:, :k] for u, _, _ in factors], 1)]
    sides.append(torch.cat([vh[:k].T for _, _, vh in factors], 1))
    u_perp, v_perp = (
        u @ vh for u, _, vh in (torch.linalg.svd(side, full_matrices=False) for side in sides)
    )
    middle = torch.cat([w * s[:k] for w, (_, s, _) in zip(weights, factors, strict=True)])
    return ((u_perp * middle) @ v_perp.T).float()


@pytest.mark.parametrize("ratio", [0.2, 0.35, 0.5, 0.8])
def test_decorrelating_by_gram_matrices_equals_svds(ratio: float) -> None:
    """Below and above the share up to which float32 is tried; the sources are correlated."""
    deltas = torch.randn(2, 40, 60, generator=torch.Generator().manual_seed(0))
    deltas[1] += deltas[0]
    found = merge(METHODS["tsvm"], torch.zeros(40, 60), deltas, [1.0, 0.7], rank_ratio=ratio)
    expected = by_svds(deltas, [1.0, 0.7], int(ratio * 40))
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=0)
