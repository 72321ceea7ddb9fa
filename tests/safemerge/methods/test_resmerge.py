"""ResMerge against the paper's formula written out, and what its weights do."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from safemerge.factors import factorise
from safemerge.methods import METHODS, Site

UP = "model.layers.0.mlp.up_proj.weight"


def merged(deltas: Tensor, weights: list[float], tensor: str = UP) -> Tensor:
    """The merge of deltas onto a base of zeros."""
    method = METHODS["resmerge"]
    params = method.parse({})
    base = torch.zeros_like(deltas[0])
    site = Site(tensor, tuple("abcdef"[: len(deltas)]), factorise)
    state = method.prepare(base, deltas, params, site)
    return method.merged(base, state, torch.tensor(weights), params)


def of_the_paper(deltas: Tensor, scored: bool = True) -> Tensor:
    """Line by line, in float64 and with whole matrices."""
    deltas = deltas.double()
    heads = []
    for delta in deltas:
        u, s, vh = torch.linalg.svd(delta)
        heads.append(s[0] * torch.outer(u[:, 0], vh[0]))
    head = torch.stack(heads)
    residual = deltas - head
    n_sources = len(deltas)
    q_i = torch.stack([r / r.norm() for r in residual])
    q = q_i.sum(dim=0) / q_i.sum(dim=0).norm()
    pairs = list(itertools.combinations(range(n_sources), 2))

    def cos(x: Tensor, y: Tensor) -> Tensor:
        return cosine_similarity(x.flatten(), y.flatten(), dim=0)

    c = torch.stack([cos(one, q) for one in q_i]).mean().clamp(0, 1)
    s = torch.stack([cos(q_i[i], q_i[j]) for i, j in pairs]).mean()
    score = ((s + 1) / 2 + (c + 1) / 2) / 2 if scored else 0.0
    a = c ** (1.0 - 0.3 * score) * torch.stack([r.norm() for r in residual]).mean() * q
    if c <= n_sources**-0.5:
        a = residual.mean(dim=0)
    s_h = torch.stack([cos(head[i], head[j]).clamp_min(0) for i, j in pairs]).mean()
    mean_head = head.mean(dim=0)
    return (a + 0.2 * s_h * a.norm() * mean_head / mean_head.norm()).float()


def draw(correlation: float, n_sources: int = 3) -> Tensor:
    """Deltas (n_sources, 8, 12) that share a part, and a strong head that half agrees."""
    random = torch.Generator().manual_seed(0)
    common = torch.randn(8, 12, generator=random)
    own = torch.randn(n_sources, 8, 12, generator=random)
    left, right = torch.randn(8, generator=random), torch.randn(12, generator=random)
    return 0.1 * (correlation * common + own + torch.outer(left, right))


@pytest.mark.parametrize("n_sources", [2, 3, 4])
@pytest.mark.parametrize("tensor", [UP, "model.projector.weight"])
def test_equal_weights_are_the_paper(n_sources: int, tensor: str) -> None:
    deltas = draw(1.0, n_sources)
    found = merged(deltas, [1.0] * n_sources, tensor)
    torch.testing.assert_close(found, of_the_paper(deltas, tensor == UP), atol=1e-5, rtol=0)


def with_weights(deltas: Tensor, weights: list[float]) -> Tensor:
    """The weighted formula of the method's docstring, with whole matrices, where s > 0."""
    w, count = torch.tensor(weights).double(), len(weights)
    head = []
    for delta in deltas.double():
        u, s, vh = torch.linalg.svd(delta)
        head.append(s[0] * torch.outer(u[:, 0], vh[0]))
    heads = torch.stack(head)
    residual = deltas.double() - heads
    q_i = residual / residual.flatten(1).norm(dim=1)[:, None, None]
    total = torch.tensordot(w, q_i, dims=1)
    pairs = list(itertools.combinations(range(count), 2))

    def over_pairs(values: list[Tensor]) -> Tensor:
        return 2 * count / (count - 1) * torch.stack(values).sum() / w.abs().sum() ** 2

    c = total.norm() / w.abs().sum()
    s = over_pairs([w[i] * w[j] * (q_i[i] * q_i[j]).sum() for i, j in pairs])
    assert s > 0
    beta = 1 - 0.3 * ((s + 1) / 2 + (c + 1) / 2) / 2
    size = sum(abs(w[i]) * residual[i].norm() for i in range(count)) / count
    a = c**beta * size * total / total.norm()
    unit = heads / heads.flatten(1).norm(dim=1)[:, None, None]
    cosines = [(w[i] * w[j] * (unit[i] * unit[j]).sum()).clamp_min(0) for i, j in pairs]
    mean_head = torch.tensordot(w, heads, dims=1) / count
    return (a + 0.2 * over_pairs(cosines) * a.norm() * mean_head / mean_head.norm()).float()


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 0.5, 0.8], [1.2, -0.1, 0.6]])
def test_weights_are_those_of_the_formula(weights: list[float]) -> None:
    deltas = draw(1.0)
    found = merged(deltas, weights)
    torch.testing.assert_close(found, with_weights(deltas, weights), atol=1e-5, rtol=0)


def test_sources_that_do_not_agree_are_averaged() -> None:
    deltas = draw(0.0, n_sources=2)
    deltas[1] -= 1.2 * deltas[0]
    expected = of_the_paper(deltas)
    assert (tail(deltas[0]) * tail(deltas[1])).sum() < 0
    torch.testing.assert_close(merged(deltas, [1.0, 1.0]), expected, atol=1e-5, rtol=0)


def tail(delta: Tensor) -> Tensor:
    """A delta without its leading triplet."""
    first = factorise(delta, 1)
    return delta - first.s * torch.outer(first.u[:, 0], first.v[:, 0])


def test_a_source_fades_out_as_its_weight_goes_to_zero() -> None:
    deltas = draw(1.0)
    gone = merged(deltas, [1.0, 1.0, 0.0])
    steps = [(merged(deltas, [1.0, 1.0, w]) - gone).norm() for w in (0.1, 0.01, 0.001)]
    assert steps[0] > 5 * steps[1] > 25 * steps[2] > 0
    alone = merged(deltas, [1.0, 0.0, 0.0])
    torch.testing.assert_close(alone, tail(deltas[0]) / 3, atol=1e-6, rtol=0)


def test_common_weights_scale_the_merge() -> None:
    deltas = draw(1.0)
    once, twice = (merged(deltas, [w, w / 2, w]) for w in (0.4, 0.8))
    torch.testing.assert_close(twice, 2 * once, atol=1e-6, rtol=0)


def test_a_negative_weight_turns_a_source_around() -> None:
    deltas = draw(1.0)
    turned = deltas.clone()
    turned[1] *= -1
    torch.testing.assert_close(
        merged(deltas, [1.0, -0.5, 0.7]), merged(turned, [1.0, 0.5, 0.7]), atol=1e-6, rtol=0
    )
