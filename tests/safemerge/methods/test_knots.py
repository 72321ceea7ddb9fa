"""KnOTS with TIES against the rule written out, and what its basis does."""

import pytest
import torch
from examples import merge, site
from torch import Tensor

from safemerge.methods import METHODS


def merged(name: str, deltas: Tensor, weights: list[float], density: float = 0.5) -> Tensor:
    """The merge of deltas onto a base of zeros."""
    base = torch.zeros_like(deltas[0])
    return merge(METHODS[name], base, deltas, weights, numbers={"density": density})


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def of_the_rule(deltas: Tensor, weights: list[float], density: float) -> Tensor:
    """SVD of the deltas side by side in float64, then TIES."""
    exact = deltas.double()
    u, s, vh = torch.linalg.svd(torch.cat(list(exact), dim=1), full_matrices=False)
    u, s, vh = u[:, s > 1e-5], s[s > 1e-5], vh[s > 1e-5]
    turned = (s[:, None] * vh).split(deltas.shape[2], dim=1)
    kept = []
    for part in turned:
        count = max(1, int(density * part.numel()))
        kept.append(part * (part.abs() >= part.abs().flatten().topk(count).values[-1]))
    scaled = [weight * part for weight, part in zip(weights, kept, strict=True)]
    sign = torch.where(sum(scaled) >= 0, 1.0, -1.0)
    agree = [(part.sign() == sign) for part in scaled]
    total = sum(part * mask for part, mask in zip(scaled, agree, strict=True))
    divisor = sum(weight * mask for weight, mask in zip(weights, agree, strict=True))
    return u @ torch.where(divisor == 0, total, total / divisor)


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(8, 12), (12, 8), (40, 6), (1, 5), (6, 1)], ids=str)
def test_it_equals_the_rule(shape: tuple[int, int], density: float) -> None:
    deltas = draw(3, *shape)
    weights = [1.0, 0.5, 0.8]
    found = merged("knots_ties", deltas, weights, density)
    expected = of_the_rule(deltas, weights, density).float()
    # Singular vectors in float32 are good to 1e-6 over the relative gap between singular values.
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=0)


def test_a_rotation_of_the_outputs_turns_the_merge_with_it() -> None:
    """TIES itself hangs on the axes: it would not turn."""
    deltas = draw(3, 8, 12)
    rotation = torch.linalg.qr(draw(8, 8)).Q
    weights = [1.0, 1.0, 1.0]
    for name, turns in (("knots_ties", True), ("ties", False)):
        found = merged(name, rotation @ deltas, weights)
        expected = rotation @ merged(name, deltas, weights)
        assert torch.allclose(found, expected, atol=1e-4) == turns


def test_low_rank_deltas_have_a_basis_of_their_ranks() -> None:
    deltas = torch.stack([draw(9, 2) @ draw(2, 12), draw(9, 1) @ draw(1, 12)])
    method = METHODS["knots_ties"]
    state = method.prepare(torch.zeros(9, 12), deltas, method.parse({}), site("ab"))
    assert state["basis"].shape[1] <= 3
    torch.testing.assert_close(state["basis"] @ state["deltas"], deltas, atol=1e-5, rtol=0)
