"""The contract that every registered merge method passes.

A method declares its properties (`zero_is_base`, `seeded`, ...) and enters by being registered;
nothing here lists methods by name to excuse them. Where a property is declared false,
the test asks for a counterexample, so that no method declares less than it keeps.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from examples import TABLE, WEIGHTS, draw, merge, n_sources, required, selection, site
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from safemerge.errors import RecipeError
from safemerge.methods import METHODS, Method, Site, State, get_method
from safemerge.methods.common.method import Peers
from safemerge.recipe import ModelRef, Recipe

SHAPES = [(12, 20), (20, 12), (7, 7), (1, 5), (5, 1), (1, 1), (0, 4), (4, 0), (9,), (1,), (0,), ()]

each_method = pytest.mark.parametrize("method", TABLE.values(), ids=TABLE)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def example(method: Method, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, list[float]]:
    """Base, deltas and weights of as many sources as the method takes, up to three."""
    count = n_sources(method)
    return *draw(shape, count), WEIGHTS[:count]


def prepared(
    part: Method, base: Tensor, deltas: Tensor, method: Method | None = None
) -> tuple[State, Any]:
    """State and parameters, ready to be combined; `part` is what `method` does at a role."""
    method = method or part
    params = method.parse(required(method))
    where = site("abc"[: len(deltas)], shape=tuple(base.shape))
    state = part.prepare(base, deltas, params, where)
    if part.select is not None:
        state = part.select(state, selection(method, len(deltas), 0.5), params)
    return state, params


def undropped(method: Method) -> dict[str, object]:
    """Parameters with which a stage drops nothing."""
    return {"drop": 0.0} if "drop" in method.params.model_fields else {}


def variations(method: Method) -> list[dict[str, object]]:
    """Parameters that differ from the defaults in one field each."""
    found: list[dict[str, object]] = []
    for name, field in method.params.model_fields.items():
        if get_origin(field.annotation) is Literal:
            values: list[object] = list(get_args(field.annotation))
        elif field.annotation is bool:
            values = [False, True]
        elif field.annotation in (int, float):
            values = [1, 2] if field.annotation is int else [0.05, 0.1]
        else:
            continue
        found += [{name: value} for value in values]
    return found


# ---- what goes in and comes out --------------------------------------------------------------


@each_method
@each_shape
def test_inputs_are_unchanged_and_the_result_is_finite_float32(
    method: Method, shape: tuple[int, ...]
) -> None:
    base, deltas, weights = example(method, shape)
    before = base.clone(), deltas.clone()
    merged = merge(method, base, deltas, weights)
    assert merged.shape == base.shape
    assert merged.dtype == torch.float32
    assert torch.isfinite(merged).all()
    assert torch.equal(base, before[0])
    assert torch.equal(deltas, before[1])


@each_method
@each_shape
def test_bfloat16_bases_are_merged_in_float32(method: Method, shape: tuple[int, ...]) -> None:
    base, deltas, weights = example(method, shape)
    merged = merge(method, base.bfloat16(), deltas, weights)
    assert torch.equal(merged, merge(method, base.bfloat16().float(), deltas, weights))


@each_method
@pytest.mark.parametrize("value", [0.0, 0.25], ids=["zero", "constant"])
def test_deltas_of_equal_entries_merge_to_something_no_longer(method: Method, value: float) -> None:
    base, deltas, weights = example(method, (6, 8))
    deltas = torch.full_like(deltas, value)
    merged = merge(
        method, base, deltas, weights, 1.0, numbers={"density": 1.0}, **undropped(method)
    )
    assert (merged - base).abs().max() <= value + 1e-6


@each_method
def test_identical_sources_merge_without_blowing_up(method: Method) -> None:
    base, deltas, _ = example(method, (12, 20))
    count = len(deltas)
    merged = merge(
        method,
        base,
        deltas[:1].expand_as(deltas),
        [1 / count] * count,
        rank_ratio=1.0,
        numbers={"density": 1.0},
        **undropped(method),
    )
    assert (merged - base).norm() <= 1.01 * deltas[0].norm()


@each_method
def test_the_same_merge_twice_is_bit_identical(method: Method) -> None:
    base, deltas, weights = example(method, (12, 20))
    assert torch.equal(merge(method, base, deltas, weights), merge(method, base, deltas, weights))


# ---- blocks ----------------------------------------------------------------------------------


@each_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_merging_into_a_tensor_gives_the_same_numbers(method: Method, dtype: torch.dtype) -> None:
    """Whatever the blocks, the place and its type: a fixed recipe gives fixed bytes."""
    base, deltas, weights = example(method, (30, 50))
    state, params = prepared(method, base.bfloat16(), deltas)
    whole = method.merged(base.bfloat16(), state, torch.tensor(weights), params).to(dtype)
    for block in (64, 1000, 1 << 20):
        out = torch.empty(50, 30, dtype=dtype).T if block == 1000 else torch.empty(30, 50).to(dtype)
        blockwise = replace(method, block=block)
        coefficients = method.coefficients(state, torch.tensor(weights), params)
        blockwise.combine_into(out, base.bfloat16(), state, coefficients, params)
        assert torch.equal(out, whole)


@each_method
@each_shape
def test_tensors_of_every_shape_are_merged_in_place(method: Method, shape: tuple[int, ...]) -> None:
    base, deltas, weights = example(method, shape)
    part = method.for_role("matrix" if base.dim() == 2 else "vector")
    state, params = prepared(part, base, deltas, method)
    out = torch.empty_like(base)
    coefficients = part.coefficients(state, torch.tensor(weights), params)
    part.combine_into(out, base, state, coefficients, params)
    assert torch.equal(out, part.merged(base, state, torch.tensor(weights), params))


@each_method
def test_what_is_declared_entry_wise_has_the_shape_for_it(method: Method) -> None:
    base, deltas, _ = example(method, (6, 10))
    state, _ = prepared(method, base, deltas)
    assert all(state[name].shape[1:] == base.shape for name in method.entrywise)


# ---- declared properties ---------------------------------------------------------------------


@each_method
def test_pieces_hold_what_the_whole_holds(method: Method) -> None:
    if not method.piecewise:
        assert method.sums is None
        return
    base, deltas, _ = example(method, (300, 500))
    chosen = selection(method, len(deltas), 0.5)
    where = site("abc"[: len(deltas)], shape=tuple(base.shape))
    for changes in ({}, *variations(method)):
        params = method.parse(required(method) | changes)
        state = method.prepare(base, deltas, params, where)
        if method.select is not None:
            state = method.select(state, chosen, params)
        parts: list[State] = []
        for begin in range(0, base.numel(), 40_000):
            piece = slice(begin, begin + 40_000)
            of_base, of_deltas = base.flatten()[piece], deltas.flatten(1)[:, piece]
            at = piece_site(where, piece, columns=500)
            part = method.prepare(of_base, of_deltas, params, at)
            parts.append(part if method.select is None else method.select(part, chosen, params))
        sums = () if method.sums is None else method.sums(params)
        assert all(part.keys() == state.keys() for part in parts)
        for name in state:
            if name in method.entrywise:
                joined = torch.cat([part[name] for part in parts], dim=1)
                assert torch.equal(joined, state[name].flatten(1))
            elif name in sums:
                total = torch.stack([part[name] for part in parts]).sum(dim=0)
                # Cuts elsewhere round otherwise: by the digits of float32, of the largest sum.
                bound = 1e-6 * state[name].abs().max().item()
                torch.testing.assert_close(total, state[name], atol=bound, rtol=0)
            else:
                assert all(torch.equal(part[name], state[name]) for part in parts)


def piece_site(where: Site, piece: slice, columns: int) -> Site:
    assert where.importance is not None
    own = where.importance.flatten(1)[:, piece]
    return replace(where, importance=own, begin=piece.start, columns=columns)


@each_method
def test_entries_are_formed_again_piece_by_piece(method: Method) -> None:
    """From deltas and what else the state holds, so that a search need not keep them."""
    base, deltas, _ = example(method, (300, 500))
    state, _ = prepared(method, base, deltas)
    where = site("abc"[: len(deltas)], shape=tuple(base.shape))
    rest = {name: tensor for name, tensor in state.items() if name not in method.entrywise}
    for begin in range(0, base.numel(), 40_000) if method.entrywise else ():
        piece = slice(begin, begin + 40_000)
        of_base, of_deltas = base.flatten()[piece], deltas.flatten(1)[:, piece]
        entries = method.entries(of_base, of_deltas, rest, piece_site(where, piece, columns=500))
        assert entries.keys() == set(method.entrywise)
        for name, tensor in entries.items():
            assert torch.equal(tensor, state[name].flatten(1)[:, piece])


@each_method
@each_shape
def test_weight_zero_returns_the_base_bit_for_bit(method: Method, shape: tuple[int, ...]) -> None:
    base, deltas, weights = example(method, shape)
    nothing = [0.0] * len(weights)
    if method.zero_is_base:
        assert torch.equal(merge(method, base, deltas, nothing), base)
    elif method.positive_sum:
        with pytest.raises(RecipeError, match="sum of the weights"):
            merge(method, base, deltas, nothing)
    else:
        assert not base.numel() or not torch.equal(merge(method, base, deltas, nothing), base)


@each_method
def test_the_base_matters_where_it_is_needed_and_nowhere_else(method: Method) -> None:
    base, deltas, weights = example(method, (12, 20))
    moved = base + 0.1 * torch.randn(base.shape, generator=torch.Generator().manual_seed(5))
    weights = [1.2 * weight for weight in weights]  # a sum of 1 would be an average of sources
    straight = merge(method, base, deltas, weights)
    from_moved = merge(method, moved, deltas + base - moved, weights)  # of the same sources
    assert torch.allclose(straight, from_moved, atol=1e-5, rtol=0) == method.ignores_base


@each_method
def test_the_order_of_sources_does_not_matter(method: Method) -> None:
    base, deltas, weights = example(method, (12, 20))
    names = "abc"[: len(weights)]
    straight = merge(method, base, deltas, weights, names=names)
    turned = merge(method, base, deltas.flip(0), weights[::-1], names=names[::-1])
    assert torch.allclose(turned, straight, atol=1e-5, rtol=0)


@each_method
def test_draws_hang_on_seed_tensor_and_source_where_there_are_any(method: Method) -> None:
    base, deltas, weights = example(method, (12, 20))
    straight = merge(method, base, deltas, weights)
    elsewhere = merge(method, base, deltas, weights, tensor="model.layers.1.mlp.up_proj.weight")
    assert torch.equal(straight, elsewhere) == (not method.seeded)
    assert ("seed" in method.params.model_fields) == method.seeded
    if method.seeded:
        assert not torch.equal(straight, merge(method, base, deltas, weights, seed=1))
        renamed = merge(method, base, deltas, weights, names="xyz")
        assert not torch.equal(straight, renamed)


@pytest.mark.parametrize(
    "method", [m for m in TABLE.values() if m.least_sources == 1], ids=lambda method: method.name
)
def test_one_source_kept_whole_is_that_source_where_declared(method: Method) -> None:
    base, deltas = draw((12, 20), n_sources=1)
    merged = merge(method, base, deltas, [1.0], rank_ratio=1.0, numbers={"density": 1.0})
    same = torch.allclose(merged, base + deltas[0], atol=1e-5, rtol=0)
    assert same == method.one_source_is_itself


@each_method
def test_gradients_reach_every_weight_where_declared(method: Method) -> None:
    base, deltas, weights = example(method, (12, 20))
    state, params = prepared(method, base, deltas)
    exact = {name: tensor.double() for name, tensor in state.items()}

    def loss(weights: Tensor) -> Tensor:
        return method.merged(base.double(), exact, weights, params).double().square().mean()

    variable = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    if method.differentiable:
        assert torch.autograd.gradcheck(loss, variable, eps=1e-3, atol=1e-4)
    else:
        assert not loss(variable).requires_grad


@each_method
def test_parameters_outside_of_the_prepare_key_leave_the_state_alone(method: Method) -> None:
    base, deltas, _ = example(method, (8, 10))
    where = site("abc"[: len(deltas)], shape=tuple(base.shape))
    plain = method.parse(required(method))
    state = method.prepare(base, deltas, plain, where)
    for changes in variations(method):
        params = method.parse(required(method) | changes)
        other = method.prepare(base, deltas, params, where)
        if method.prepare_key(params) == method.prepare_key(plain):
            assert state.keys() == other.keys()
            assert all(torch.equal(state[name], other[name]) for name in state)


@each_method
def test_a_selection_that_is_stored_hangs_on_no_other_parameter(method: Method) -> None:
    """Whatever is not in the prepare key leaves it alone."""
    if method.select is None or not method.slow_select:
        return
    base, deltas, _ = example(method, (8, 10))
    where = site("abc"[: len(deltas)], shape=tuple(base.shape))
    plain = method.parse(required(method))
    chosen = method.selection(recipe(method, "abc"[: len(deltas)]), "all", Peers(1.0, 1.0))
    selected = method.select(method.prepare(base, deltas, plain, where), chosen, plain)
    for changes in variations(method):
        params = method.parse(required(method) | changes)
        if method.prepare_key(params) == method.prepare_key(plain):
            other = method.select(method.prepare(base, deltas, params, where), chosen, params)
            assert selected.keys() == other.keys()
            assert all(torch.equal(selected[name], other[name]) for name in selected)


# ---- per-source numbers and refusals -----------------------------------------------------------


def recipe(method: Method, names: str, **changes: object) -> Recipe:
    return Recipe.model_validate(
        {
            "base": ModelRef(name="base", path="base"),
            "sources": [ModelRef(name=name, path=name, importance=name) for name in names],
            "method": method.name,
            "params": required(method),
            "weights": {"default": dict.fromkeys(names, 0.5)},
        }
        | changes
    )


@each_method
@each_shape
def test_every_per_source_number_may_be_at_either_end(
    method: Method, shape: tuple[int, ...]
) -> None:
    base, deltas, weights = example(method, shape)
    for name, span in method.per_source.items():
        for value in (span.low, span.high):
            merged = merge(method, base, deltas, weights, numbers={name: value})
            assert torch.isfinite(merged).all()
        assert span.low <= span.default <= span.high
        assert span.start is None or span.low <= span.start <= span.high


@each_method
def test_per_source_numbers_out_of_range_are_refused_with_the_range(method: Method) -> None:
    names = "abc"[: n_sources(method)]
    method.check(recipe(method, names))
    for number, span in method.per_source.items():
        wrong = {number: {"default": {"b": span.high + 1}}}
        with pytest.raises(RecipeError, match=rf"{number} of source 'b'.*the range is \[.*\]"):
            method.check(recipe(method, names, per_source=wrong))


@each_method
def test_weights_without_a_positive_sum_are_refused_where_sources_are_averaged(
    method: Method,
) -> None:
    names = "abc"[: n_sources(method)]
    weights = {"default": dict.fromkeys(names, 0.5), "layer.1": {"a": 0.5, "b": -0.5}}
    one = recipe(method, names, weights=weights)
    if not method.positive_sum:
        method.check_weights(one)
    else:
        with pytest.raises(RecipeError, match=r"'layer.1' the sum of the weights \[0.5, -0.5"):
            method.check_weights(one)


@each_method
def test_too_few_and_too_many_sources_are_refused(method: Method) -> None:
    if method.least_sources > 1:
        with pytest.raises(
            RecipeError, match=f"'{re.escape(method.name)}' merges .* sources, but .* 1"
        ):
            method.check(recipe(method, "a"))
    if method.most_sources is not None:
        with pytest.raises(RecipeError, match=f"'{re.escape(method.name)}' merges exactly"):
            method.check(recipe(method, "abcdef"[: method.most_sources + 1]))


@each_method
def test_an_unknown_parameter_is_refused_by_name(method: Method) -> None:
    with pytest.raises(
        RecipeError, match=rf"method '{re.escape(method.name)}': there is no key 'densty'"
    ):
        method.parse({"densty": 0.5})


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match="unknown merge method 'resn'; did you mean resm"):
        get_method("resn")


def test_a_parameter_out_of_range_is_refused_with_its_range() -> None:
    with pytest.raises(RecipeError, match=r"scale: .*less than or equal to 10, got 11"):
        METHODS["tsvm"].parse({"scale": 11})
    with pytest.raises(RecipeError, match=r"outliers: .*'favour'.*got 'favor'"):
        METHODS["resm"].parse({"outliers": "favor"})


# ---- any numbers -----------------------------------------------------------------------------


@each_method
@given(data=st.data())
@settings(max_examples=15)
def test_any_shape_weights_and_numbers_give_finite_numbers(
    method: Method, data: st.DataObject
) -> None:
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    count = data.draw(st.integers(method.least_sources, method.most_sources or 4))
    low = 0.1 if method.positive_sum else -2.0
    weights = data.draw(st.lists(st.floats(low, 2.0), min_size=count, max_size=count))
    numbers = {
        name: data.draw(st.floats(span.low, span.high)) for name, span in method.per_source.items()
    }
    ratio = data.draw(st.none() | st.floats(0.01, 1.0))
    base, deltas = draw(shape, count, data.draw(st.integers(0, 99)))
    deltas *= data.draw(st.sampled_from([0.0, 1e-30, 1e-4, 1.0, 1e3]))
    merged = merge(method, base, deltas, weights, ratio, numbers=numbers)
    assert torch.isfinite(merged).all()


# ---- devices ---------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here; no CI step has one")
@each_method
@each_shape
def test_another_device_gives_the_same_numbers(method: Method, shape: tuple[int, ...]) -> None:
    base, deltas, weights = example(method, shape)
    expected = merge(method, base, deltas, weights)
    found = merge(method, base.cuda(), deltas.cuda(), weights)
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=0)
