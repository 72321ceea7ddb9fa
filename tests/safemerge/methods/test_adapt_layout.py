"""Stacks of matrices and transposed matrices are merged as the matrices that they hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from examples import TABLE, important, required
from safetensors.torch import load_file, save_file

from safemerge import Recipe, ResidentMerge, merge
from safemerge.factors import factorise
from safemerge.methods import METHODS, Method, Site
from safemerge.methods.common.adapt_layout import adapt_layout
from safemerge.names import Layout, layout_of, role_of
from safemerge.recipe import ModelRef

EXPERTS = 3
NAME = "model.layers.0.mlp.experts.gate_up_proj"
SITE = Site(NAME, ("a", "b"), factorise)
IMPORTANT = important("ab", (EXPERTS, 6, 10))


def merged(method: Method, base: torch.Tensor, deltas: torch.Tensor, site: Site) -> torch.Tensor:
    recipe = Recipe(
        base=ModelRef(name="base", path="base"),
        sources=tuple(ModelRef(name=name, path=name, importance=name) for name in "ab"),
        method=method.name,
        params=required(method),
        weights={"default": {"a": 0.7, "b": 0.4}},
    )
    params = method.check(recipe)
    state = method.prepare(base, deltas, params, site)
    if method.select is not None:
        state = method.select(state, method.selection(recipe, "all"), params)
    return method.merged(base, state, torch.tensor([0.7, 0.4]), params)


def matrices() -> tuple[torch.Tensor, torch.Tensor]:
    """Base (experts, out, in) and deltas (sources, experts, out, in), columns of uneven size."""
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(EXPERTS, 6, 10, generator=generator)
    deltas = torch.randn(2, EXPERTS, 6, 10, generator=generator)
    deltas[0, :, :, 2] *= 20.0
    return base, deltas


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("transposed", [False, True])
def test_a_stack_is_merged_matrix_by_matrix(name: str, transposed: bool) -> None:
    method = TABLE[name].for_role("matrix")
    base, deltas = matrices()
    stored = (base.mT, deltas.mT) if transposed else (base, deltas)
    important = IMPORTANT.mT if transposed else IMPORTANT
    whole = replace(SITE, importance=important)
    found = merged(adapt_layout(method, Layout(True, transposed)), *stored, whole)
    assert found.shape == stored[0].shape
    for i in range(EXPERTS):
        site = replace(SITE, tensor=f"{NAME}[{i}]", importance=IMPORTANT[:, i])
        expected = merged(method, base[i], deltas[:, i].contiguous(), site)
        one = found[i].mT if transposed else found[i]
        torch.testing.assert_close(one, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", TABLE)
def test_a_transposed_matrix_is_turned_and_turned_back(name: str) -> None:
    method = TABLE[name].for_role("matrix")
    base, deltas = (tensor.select(-3, 0).contiguous() for tensor in matrices())
    important = IMPORTANT[:, 0]
    turned = replace(SITE, importance=important.mT)
    found = merged(adapt_layout(method, Layout(transposed=True)), base.mT, deltas.mT, turned)
    expected = merged(method, base, deltas, replace(SITE, importance=important))
    torch.testing.assert_close(found.mT, expected, atol=1e-6, rtol=0)


def test_outlier_columns_are_input_neurons_in_either_layout() -> None:
    """RESM's column statistic is not that of the rows: turning matters."""
    method = METHODS["resm"]
    base, deltas = (tensor.select(-3, 0).contiguous() for tensor in matrices())
    params = method.parse({"outliers": "favour", "kappa": 2.0})
    turned = adapt_layout(method, Layout(transposed=True))
    plain = method.prepare(base, deltas, params, SITE)["outlier"]
    stored = turned.prepare(base.mT, deltas.mT, params, SITE)["0.outlier"]
    assert torch.equal(stored, plain)
    assert not torch.equal(method.prepare(base.mT, deltas.mT, params, SITE)["outlier"], plain)


def test_one_matrix_needs_no_other_method() -> None:
    assert adapt_layout(METHODS["resm"], Layout()) is METHODS["resm"]


@pytest.mark.parametrize(
    ("name", "shape", "model_type", "layout"),
    [
        ("transformer.h.0.attn.c_attn.weight", (8, 24), "gpt2", Layout(transposed=True)),
        ("transformer.h.0.attn.c_attn.bias", (24,), "gpt2", Layout()),
        ("transformer.wte.weight", (9, 8), "gpt2", Layout()),
        ("transformer.h.0.attn.c_attn.weight", (24, 8), "gpt_bigcode", Layout()),
        (NAME, (3, 8, 24), "gpt_oss", Layout(True, True)),
        (f"{NAME}_bias", (3, 24), "gpt_oss", Layout()),
        (NAME, (3, 24, 8), "qwen3_moe", Layout(True)),
        ("model.layers.0.block_sparse_moe.input_linear.weight", (3, 24, 8), "x", Layout(True)),
        ("model.layers.0.self_attention.experts.input_linear.weight", (3, 8, 6), "x", Layout(True)),
        ("backbone.layers.0.mixer.conv1d.weight", (8, 1, 4), "mamba", Layout()),
        ("rwkv.blocks.0.feed_forward.time_mix_key", (1, 1, 16), "rwkv", Layout()),
    ],
)
def test_layouts_are_read_from_name_shape_and_architecture(
    name: str, shape: tuple[int, ...], model_type: str, layout: Layout
) -> None:
    assert layout_of(name, shape, model_type) == layout
    assert not layout.stacked or role_of(name, shape) == "matrix"


@pytest.mark.parametrize("method", ["resm", "task_arithmetic", "slerp", "model_stock"])
def test_experts_stored_together_or_apart_merge_alike(method: str, tmp_path: Path) -> None:
    """Densities differ between experts, so the ranks of RESM do too."""
    generator = torch.Generator().manual_seed(0)
    for name in ("base", "a", "b"):
        stack = torch.randn(EXPERTS, 8, 12, generator=generator)
        stack[1] *= torch.rand(8, 12, generator=generator) > (0.0 if name == "base" else 0.8)
        apart = {
            f"model.layers.0.mlp.experts.{i}.gate_up_proj.weight": matrix.clone()
            for i, matrix in enumerate(stack)
        }
        for kind, tensors in (("together", {NAME: stack}), ("apart", apart)):
            folder = tmp_path / kind / name
            folder.mkdir(parents=True)
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
            (folder / "config.json").write_text('{"model_type": "qwen3_moe"}')
    results = {}
    for kind in ("together", "apart"):
        recipe = Recipe(
            base=ModelRef(name="base", path=str(tmp_path / kind / "base")),
            sources=tuple(ModelRef(name=n, path=str(tmp_path / kind / n)) for n in "ab"),
            method=method,
            places="modules",
            weights={"default": {"a": 0.7, "b": 0.4}},
        )
        merge(recipe, tmp_path / kind / "out")
        results[kind] = load_file(tmp_path / kind / "out/model.safetensors")
        live = dict(ResidentMerge(recipe).merged(recipe))
        assert all(torch.equal(live[name], results[kind][name]) for name in live)
    found = results["together"][NAME]
    for i in range(EXPERTS):
        expected = results["apart"][f"model.layers.0.mlp.experts.{i}.gate_up_proj.weight"]
        torch.testing.assert_close(found[i], expected, atol=1e-6, rtol=0)
