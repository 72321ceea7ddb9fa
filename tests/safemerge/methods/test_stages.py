"""Stages around a merge method, against their formulas in float64, and what cannot be combined."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from examples import TENSOR, WEIGHTS, draw, merge, site
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq
from torch import Tensor

from safemerge.errors import RecipeError
from safemerge.low_rank import LowRank
from safemerge.merge_tensor import peers
from safemerge.methods import METHODS, get_method
from safemerge.methods.common.draws import keep_evenly
from safemerge.methods.common.method import Measured, Peers
from safemerge.methods.hard_threshold import threshold_rank
from safemerge.methods.lssf import entropy_rank
from safemerge.recipe import ModelRef, Recipe

SHAPES = [(12, 20), (20, 12), (9, 9), (1, 6)]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def weighted(deltas: Tensor, weights: list[float]) -> Tensor:
    return torch.tensordot(torch.tensor(weights, dtype=deltas.dtype), deltas, dims=1)


# ---- hard threshold ----------------------------------------------------------------------------


def coefficient(beta: float) -> float:
    """omega / mu by quadrature of the Marchenko-Pastur density and a search for its median."""
    low, high = (1 - math.sqrt(beta)) ** 2, (1 + math.sqrt(beta)) ** 2

    def below(value: float) -> float:
        def density(x: float) -> float:
            return math.sqrt(max((high - x) * (x - low), 0.0)) / (2 * math.pi * beta * x)

        return quad(density, low, value, limit=200)[0]

    median = brentq(lambda value: below(value) - 0.5, low + 1e-9, high)
    root = math.sqrt(beta**2 + 14 * beta + 1)
    return math.sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + root)) / math.sqrt(median)


def filtered(delta: Tensor, noise: float = 1.0) -> Tensor:
    u, s, vh = torch.linalg.svd(delta.double(), full_matrices=False)
    middle = sorted(s.tolist())[(len(s) - 1) // 2]
    least = noise * coefficient(min(delta.shape) / max(delta.shape)) * middle
    kept = s * (s > least)
    kept[0] = s[0]
    return (u * kept) @ vh


def test_the_threshold_of_square_matrices_is_the_published_2_858_medians() -> None:
    assert coefficient(1.0) == pytest.approx(2.858, abs=5e-4)
    just = torch.tensor([2.8583, 2.8580, 1.0, 0.5, 0.4])
    assert threshold_rank(just, (5, 5), 1.0) == 1  # 2.8583 > 2.85818 > 2.8580


@each_shape
@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_sources_are_filtered_before_the_merge(shape: tuple[int, int], noise: float) -> None:
    base, deltas = draw(shape)
    found = merge(get_method("hard_threshold+task_arithmetic"), base, deltas, WEIGHTS, noise=noise)
    parts = torch.stack([filtered(delta, noise) for delta in deltas])
    torch.testing.assert_close(found, base + weighted(parts, WEIGHTS).float(), atol=1e-5, rtol=0)


@given(rank=st.integers(1, 4), seed=st.integers(0, 999), wide=st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_signal_is_found_at_its_rank_in_noise(rank: int, seed: int, wide: bool) -> None:
    random = torch.Generator().manual_seed(seed)
    shape = (40, 80) if wide else (60, 60)
    left, right = (torch.linalg.qr(torch.randn(n, rank, generator=random)).Q for n in shape)
    # Ten times the largest singular value of the noise.
    noise = torch.randn(shape, generator=random)
    edge = sum(math.sqrt(n) for n in shape)
    s = torch.linalg.svdvals(noise + 10 * edge * left @ right.T)
    assert threshold_rank(s, shape, 1.0) == rank


def test_a_lora_is_measured_by_the_triplets_that_it_has() -> None:
    """The median of all singular values would be 0, and everything above it."""
    s = torch.tensor([9.0, 1.0, 0.9, 0.8] + [0.0] * 60)
    assert threshold_rank(s, (64, 64), 1.0) == 1
    assert threshold_rank(s, (64, 64), 0.3) == 4
    assert threshold_rank(torch.zeros(3), (3, 3), 1.0) == 0


@pytest.mark.parametrize("name", ["tsvm", "resm"])
def test_threshold_ranks_are_those_of_filtered_sources(name: str) -> None:
    base, deltas = draw((12, 20))
    deltas[0, 0] *= 30.0
    deltas[1, :, 2] *= 20.0
    found = merge(METHODS[name], base, deltas, WEIGHTS, ranks="threshold")
    expected = merge(get_method(f"hard_threshold+{name}"), base, deltas, WEIGHTS, 1.0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    even = merge(METHODS[name], base, deltas, WEIGHTS, ranks="even")
    assert not torch.allclose(found, even, atol=1e-3)


def test_noise_is_a_number_of_each_source_and_the_rank_ratio_a_bound() -> None:
    base, deltas = draw((12, 20))
    low = merge(METHODS["tsvm"], base, deltas, WEIGHTS, numbers={"noise": 0.5}, ranks="threshold")
    expected = merge(get_method("hard_threshold+tsvm"), base, deltas, WEIGHTS, 1.0, noise=0.5)
    torch.testing.assert_close(low, expected, atol=1e-5, rtol=0)
    bound = merge(METHODS["tsvm"], base, deltas, WEIGHTS, 1 / 12, ranks="threshold")
    one = merge(METHODS["tsvm"], base, deltas, WEIGHTS, 1 / 12)
    torch.testing.assert_close(bound, one, atol=1e-6, rtol=0)


# ---- singular value calibration ----------------------------------------------------------------


def calibrated(deltas: Tensor, weights: list[float], alpha: float) -> Tensor:
    """Direction by direction and source by source."""
    exact = deltas.double()
    u, s, vh = torch.linalg.svd(weighted(exact, weights), full_matrices=False)
    counted = [delta for delta, weight in zip(exact, weights, strict=True) if weight != 0]
    for r in range(len(s)):
        merged, total = s[r] * vh[r], 0.0
        for delta in counted:
            own = u[:, r] @ delta
            total += max(alpha, float(merged @ own / (own @ own)))
        s[r] *= len(counted) / total
    return (u * s) @ vh


@each_shape
@pytest.mark.parametrize("alpha", [0.1, 1.0])
@pytest.mark.parametrize("weights", [[1.0, 0.8, 0.9], [1.5, 0.0, -0.5]], ids=str)
def test_svc_is_its_formula(shape: tuple[int, int], alpha: float, weights: list[float]) -> None:
    base, deltas = draw(shape)
    deltas += 0.2 * deltas[:1]
    found = merge(get_method("task_arithmetic+svc"), base, deltas, weights, alpha=alpha)
    expected = base + calibrated(deltas, weights, alpha).float()
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_what_two_sources_share_is_counted_once() -> None:
    base, deltas = draw((12, 20), n_sources=1)
    twice = deltas.expand(2, -1, -1)
    found = merge(get_method("task_arithmetic+svc"), base, twice, [1.0, 1.0])
    torch.testing.assert_close(found, base + deltas[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["ties", "tsvm", "resmerge"])
def test_svc_calibrates_what_any_method_adds(method: str) -> None:
    base, deltas = draw((12, 20))
    zero = torch.zeros_like(base)
    added = merge(METHODS[method], zero, deltas, [1.0, 1.0, 1.0]).double()
    u, s, vh = torch.linalg.svd(added, full_matrices=False)
    own = torch.einsum("or,soi->sri", u, deltas.double())
    ratio = ((s[:, None] * vh) * own).sum(dim=2) / own.square().sum(dim=2)
    expected = (u * (s * 3 / ratio.clamp_min(1.0).sum(dim=0))) @ vh
    found = merge(get_method(f"{method}+svc"), base, deltas, [1.0, 1.0, 1.0])
    torch.testing.assert_close(found, base + expected.float(), atol=2e-5, rtol=0)


# ---- alignment added back ----------------------------------------------------------------------


def leading(delta: Tensor, k: int) -> Tensor:
    u, s, vh = torch.linalg.svd(delta.double(), full_matrices=False)
    return ((u[:, :k] * s[:k]) @ vh[:k]).float()


def by_entropy(delta: Tensor, retention: float) -> Tensor:
    s = torch.linalg.svdvals(delta.double())
    p = [value / s.sum().item() for value in s.tolist()]
    terms = [-value * math.log(value) for value in p]
    rank = next(r for r in range(1, 99) if sum(terms[:r]) >= (retention - 1e-9) * sum(terms))
    return leading(delta, rank)


def thinned(delta: Tensor, drop: float, aligned: str) -> Tensor:
    mask = keep_evenly(site("abc", TENSOR).seed(5, aligned), 1 - drop, delta)
    return delta * mask / (round((1 - drop) * 65536) / 65536)


PARTS: dict[str, tuple[Callable[[Tensor, str], Tensor], dict[str, object], dict[str, float]]] = {
    "lox": (lambda delta, _: leading(delta, 3), {"k": 3}, {}),
    "lssf": (lambda delta, _: by_entropy(delta, 0.6), {}, {"retention": 0.6}),
    "resta": (lambda delta, aligned: thinned(delta, 0.7, aligned), {"drop": 0.7, "seed": 5}, {}),
    "expo": (lambda delta, _: delta, {}, {}),
}
each_part = pytest.mark.parametrize("name", PARTS)


@each_part
@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "tsvm"])
@pytest.mark.parametrize(
    ("pair", "others", "strength"),
    [
        ({"aligned": "a"}, [1, 2], 0),  # against the base
        ({"aligned": "a", "unaligned": "c"}, [1], 0),
        ({"aligned": "base", "unaligned": "b"}, [0, 2], 1),
    ],
    ids=["a-base", "a-c", "base-b"],
)
def test_a_part_of_the_pairs_delta_is_added_to_the_merge_of_the_others(
    name: str, method: str, pair: dict[str, str], others: list[int], strength: int
) -> None:
    part, params, numbers = PARTS[name]
    base, deltas = draw((12, 20))
    signs = {pair["aligned"]: 1.0, pair.get("unaligned", "base"): -1.0}
    changed = sum(
        (signs.get(source, 0.0) * delta for source, delta in zip("abc", deltas, strict=True)),
        start=torch.zeros_like(base),
    )
    merged = merge(METHODS[method], base, deltas[others], [WEIGHTS[i] for i in others])
    found = merge(
        get_method(f"{method}+{name}"), base, deltas, WEIGHTS, numbers=numbers, **pair, **params
    )
    expected = merged + WEIGHTS[strength] * part(changed, pair["aligned"])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@each_part
def test_vectors_get_the_whole_delta_or_what_is_left_of_it(name: str) -> None:
    part, params, _ = PARTS[name]
    base, deltas = draw((15,))
    found = merge(get_method(f"tsvm+{name}"), base, deltas, WEIGHTS, aligned="a", **params)
    whole = part(deltas[0], "a") if name == "resta" else deltas[0]
    merged = merge(METHODS["tsvm"], base, deltas[1:], WEIGHTS[1:])
    torch.testing.assert_close(found, merged + WEIGHTS[0] * whole, atol=1e-6, rtol=0)


@each_part
def test_factors_of_a_pair_give_what_their_products_give(name: str) -> None:
    """Of two adapters, whose difference has the rank of both together."""
    random = torch.Generator().manual_seed(1)
    factors = [
        LowRank(torch.randn(40, 3, generator=random), torch.randn(3, 50, generator=random))
        for _ in range(3)
    ]
    deltas, base = torch.stack([pair.dense() for pair in factors]), torch.zeros(40, 50)
    method = get_method(f"tsvm+{name}")
    params = method.parse({"aligned": "a", "unaligned": "b"} | PARTS[name][1])
    results = []
    for given_ in (deltas, factors):
        state = method.prepare(base, given_, params, site("abc"))
        assert method.select is not None
        chosen = method.selection(recipe(method.name, params={"aligned": "a"}), "all")
        state = method.select(state, chosen, params)
        results.append(method.merged(base, state, torch.tensor(WEIGHTS), params))
    torch.testing.assert_close(*results, atol=1e-4, rtol=0)


def test_the_entropy_rank_by_hand() -> None:
    """p = 1/2, 1/4, 1/4: terms (ln 2) / 2 each, so a third of the entropy each."""
    s = torch.tensor([2.0, 1.0, 1.0])
    assert [entropy_rank(s, share) for share in (0.0, 0.3, 0.34, 0.67, 1.0)] == [1, 1, 2, 3, 3]
    assert entropy_rank(torch.tensor([5.0]), 0.85) == 1
    assert entropy_rank(torch.tensor([]), 0.85) == 0


# ---- RESM's polarized scaling ------------------------------------------------------------------


@each_shape
@pytest.mark.parametrize("mean_norm", [0.5, 3.0])
def test_polarized_scaling_is_tsvm_with_the_factors_by_hand(
    shape: tuple[int, int], mean_norm: float
) -> None:
    base, deltas = draw(shape)
    deltas[0] *= 1.7
    kept = max(1, int(0.5 * min(shape)))
    norms = [delta.double().norm().item() for delta in deltas]

    def factor(norm: float, mean: float) -> float:
        return min(max((norm / mean) ** 2, 0.25), 4.0)

    layer = factor(math.hypot(*norms), mean_norm)
    weights, left, right, middle = [], [], [], []
    for weight, norm, delta in zip(WEIGHTS, norms, deltas.double(), strict=True):
        u, s, vh = torch.linalg.svd(delta, full_matrices=False)
        s = s[:kept]
        scaled = [value * factor(value, s.mean().item()) for value in s.tolist()]
        weights.append(weight * layer * factor(norm, sum(norms) / 3))
        left.append(u[:, :kept])
        right.append(vh[:kept].T)
        middle.append(weights[-1] * torch.tensor(scaled, dtype=torch.float64))
    sides = []
    for parts in (left, right):
        p, s, qh = torch.linalg.svd(torch.cat(parts, dim=1), full_matrices=False)
        sides.append((p * (s > 1e-5 * s[0])) @ qh)
    expected = base + ((sides[0] * torch.cat(middle)) @ sides[1].T).float()

    method = METHODS["resm"]
    params = method.parse({"outliers": "polarize"})
    state = method.prepare(base, deltas, params, site("abc"))
    assert method.select is not None
    one = recipe("resm", rank_ratio={"default": 0.5})
    chosen = method.selection(one, "all", Peers(1.0, mean_norm))
    state = method.select(state, chosen, params)
    found = method.merged(base, state, torch.tensor(WEIGHTS), params)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_peers_are_the_peak_of_densities_and_the_mean_of_norms_that_are_not_0() -> None:
    known = [
        ("q_proj", Measured(0.5, (3.0,))),
        ("q_proj", Measured(0.0, ())),
        ("q_proj", Measured(0.2, (0.0, 1.0))),
        ("v_proj", Measured(0.0, (0.0,))),
    ]
    expected = {"q_proj": Peers(0.5, 2.0), "v_proj": Peers(0.0, None)}
    assert peers(known) == peers(known[::-1]) == expected


# ---- refusals ----------------------------------------------------------------------------------


def recipe(method: str, **changes: object) -> Recipe:
    return Recipe.model_validate(
        {
            "base": ModelRef(name="base", path="base"),
            "sources": [ModelRef(name=name, path=name) for name in "abc"],
            "method": method,
            "weights": {"default": dict.fromkeys("abc", 0.5)},
        }
        | changes
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ties+scv", "unknown merge method 'scv'; did you mean svc"),
        ("svc", r"method 'svc' names 0 merge methods; give one, and beside it stages \(hard"),
        ("ties+tsvm", "method 'ties.tsvm' names 2 merge methods"),
        ("svc+ties", "svc stands once, after the merge method"),
        ("ties+hard_threshold", "hard_threshold stands once, before the merge method"),
        ("ties+svc+svc", "svc stands once"),
        ("linear+svc", "linear averages whole sources.*name task_arithmetic with weights that sum"),
        ("alignment_guard+lox", "both have a parameter 'aligned'"),
        ("ties+lox+expo", "both have a parameter 'aligned'"),
        ("led+lox", "led compares the importance of all sources, and a pair has none"),
    ],
)
def test_what_cannot_be_combined_is_refused_in_a_sentence(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        get_method(name)


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("ties+lox", {}, "aligned is missing, and it has no default"),
        ("ties+lox", {"params": {"aligned": "d"}}, "aligned is 'd', which is neither a source"),
        ("ties+lox", {"params": {"aligned": "a", "unaligned": "bas"}}, "did you mean base"),
        ("ties+lox", {"params": {"aligned": "base"}}, "aligned and unaligned are both 'base'"),
        (
            "resmerge+expo",
            {"params": {"aligned": "a", "unaligned": "b"}},
            "merges at least 2 sources beside the pair 'a' and 'b', and the recipe names 1",
        ),
        (
            "tsvm",
            {"params": {"ranks": "threshold", "rank_limit": 0.1}},
            "needs all singular values, and rank_limit is 0.1; set it to 1",
        ),
        (
            "resm",
            {"per_source": {"noise": {"default": {"a": 1.0}}}},
            "noise is a number of ranks = 'threshold', and ranks is 'density'",
        ),
    ],
)
def test_recipes_that_do_not_fit_are_refused_in_a_sentence(
    method: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        get_method(method).check(recipe(method, **changes))
