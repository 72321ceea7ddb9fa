"""What spectral methods keep: ranks, limits, and sources of low rank."""

import pytest
import torch
from examples import selection
from torch import Tensor

from safemerge import ModelRef, Recipe
from safemerge.errors import RecipeError
from safemerge.factors import factorise
from safemerge.methods import METHODS, Site
from safemerge.methods.common.ranks import kept_rank

SITE = Site("model.layers.0.mlp.up_proj.weight", ("a", "b"), factorise)


def merged(name: str, deltas: Tensor, rank_ratio: float | None = None, **params: object) -> Tensor:
    """The merge of two deltas onto a base of zeros."""
    method = METHODS[name]
    parsed = method.parse(params)
    base = torch.zeros_like(deltas[0])
    assert method.select is not None
    state = method.prepare(base, deltas, parsed, SITE)
    state = method.select(state, selection(method, 2, rank_ratio), parsed)
    return method.merged(base, state, torch.tensor([1.0, 0.7]), parsed)


def decaying(out: int, into: int) -> Tensor:
    """Two deltas (2, out, in) with singular values 1, 1/2, 1/3, ..."""
    random = torch.Generator().manual_seed(0)
    left, right = (
        torch.linalg.qr(torch.randn(2, side, out, generator=random)).Q for side in (out, into)
    )
    return (left / torch.arange(1, out + 1)) @ right.mT


@pytest.mark.parametrize(
    ("rank", "n_sources", "ratio", "kept"),
    [
        (96, 3, None, 32),
        (96, 3, 1 / 3, 32),
        (96, 3, 1.0, 96),
        (7, 2, None, 3),
        (5, 9, None, 1),
        (100, 1, 1e-6, 1),
        (0, 3, 0.5, 0),
    ],
)
def test_kept_ranks(rank: int, n_sources: int, ratio: float | None, kept: int) -> None:
    assert kept_rank(rank, n_sources, ratio) == kept


@pytest.mark.parametrize("name", ["tsvm", "resm"])
def test_sources_of_low_rank_take_part_with_what_they_have(name: str) -> None:
    """A source of rank 2 beside one of full rank: decorrelating the first one's arbitrary null
    vectors with the second's would change the merge."""
    deltas = decaying(8, 12)
    u, s, vh = torch.linalg.svd(deltas[0], full_matrices=False)
    deltas[0] = (u[:, :2] * s[:2]) @ vh[:2]
    full = factorise(deltas[1])
    left, right = torch.cat([u[:, :2], full.u], 1), torch.cat([vh[:2].T, full.v], 1)
    weights = torch.cat([s[:2], 0.7 * full.s])
    lu, _, lv = torch.linalg.svd(left, full_matrices=False)
    ru, _, rv = torch.linalg.svd(right, full_matrices=False)
    expected = (lu @ lv * weights) @ (ru @ rv).T
    torch.testing.assert_close(merged(name, deltas, 1.0), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["tsvm", "resm"])
def test_a_rank_limit_changes_the_merge_by_less_than_the_bound(name: str) -> None:
    """Of 300 triplets 30 are computed, by the randomised way, and 20 are kept."""
    deltas = decaying(300, 320)
    all_computed = merged(name, deltas, 20 / 300)
    limited = merged(name, deltas, 20 / 300, rank_limit=0.1)
    assert (limited - all_computed).norm() <= 1e-3 * all_computed.norm()
    assert not torch.equal(limited, all_computed)


def test_a_rank_limit_limits_the_default_rank() -> None:
    deltas = decaying(8, 12)
    limited = merged("tsvm", deltas, rank_limit=0.25)
    torch.testing.assert_close(limited, merged("tsvm", deltas, 0.25), atol=1e-6, rtol=0)


def test_a_rank_ratio_above_the_limit_is_refused() -> None:
    one = Recipe(
        base=ModelRef(name="base", path="base"),
        sources=(ModelRef(name="a", path="a"),),
        method="tsvm",
        params={"rank_limit": 0.1},
        weights={"default": {"a": 1.0}},
        rank_ratio={"layer.1": 0.1, "layer.2": 0.2},
    )
    with pytest.raises(
        RecipeError, match=r"'tsvm': rank_ratio\['layer.2'\] is 0.2, above rank_limit, which is 0.1"
    ):
        METHODS["tsvm"].check(one)
