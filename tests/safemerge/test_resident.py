"""ResidentMerge and merge: the same numbers, no file access and no SVD in a trial."""

import builtins
import os
import shutil
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from examples import TABLE, WEIGHTS, n_sources, required, source
from safetensors.torch import load_file, save_file

import safemerge.factors
import safemerge.resident
from safemerge import ModelRef, Recipe, ResidentMerge, merge
from safemerge.errors import CheckpointError, OutputError, RecipeError
from safemerge.factors import factorise
from safemerge.inputs import open_inputs
from safemerge.merging import MergeOptions
from safemerge.methods import METHODS
from safemerge.store import TensorStore


def recipe(goldens: Path, method: str = "resm", **changes: Any) -> Recipe:
    names = "abc"[: n_sources(TABLE[method])]
    fields: dict[str, Any] = {
        "base": ModelRef(name="base", path=str(goldens / "models/base")),
        "sources": [source(goldens / "models" / n, TABLE[method]) for n in names],
        "method": method,
        "params": required(TABLE[method]),
        "places": "modules",
        "weights": {"default": dict(zip(names, WEIGHTS, strict=False))},
    }
    return Recipe.model_validate(fields | changes)


def live_model(goldens: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(goldens / "models/base/model.safetensors")
    return {name: tensor.clone() for name, tensor in tensors.items()}


@pytest.mark.parametrize("method", TABLE)
def test_memory_and_disk_agree_bit_for_bit(method: str, goldens: Path, tmp_path: Path) -> None:
    one = recipe(goldens, method)
    merge(one, tmp_path / "out")
    written = load_file(tmp_path / "out/model.safetensors")
    live = live_model(goldens)
    ResidentMerge(one).apply(one, live)
    assert written.keys() == live.keys()
    assert all(torch.equal(written[name], live[name]) for name in live)


@pytest.mark.parametrize("method", TABLE)
def test_a_trial_touches_no_file_and_takes_no_svd(
    method: str, goldens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = recipe(goldens, method)
    resident = ResidentMerge(one)
    live = live_model(goldens)
    before = {name: tensor.clone() for name, tensor in live.items()}

    def forbidden(*args: object, **kwargs: object) -> NoReturn:
        raise AssertionError("a trial opened a file or took an SVD")

    for module, name in [
        (builtins, "open"),
        (os, "open"),
        (os, "stat"),
        (torch.linalg, "svd"),
        (torch.linalg, "svdvals"),
        (torch, "svd"),
        (torch, "svd_lowrank"),
        (safemerge.factors, "factorise"),
    ]:
        monkeypatch.setattr(module, name, forbidden)
    ratios = {"rank_ratio": {"default": 0.5}} if TABLE[method].spectral else {}
    other = {"default": {name: 0.9 - weight for name, weight in one.weights["default"].items()}}
    changed = recipe(goldens, method, weights=other, **ratios)
    resident.apply(one, live)
    resident.apply(changed, live)
    assert any(not torch.equal(live[name], before[name]) for name in live)


def test_apply_changes_exactly_the_groups_whose_weights_changed(goldens: Path) -> None:
    one = recipe(goldens, "task_arithmetic")
    resident = ResidentMerge(one)
    groups = open_inputs(one).groups("modules")
    first, second = live_model(goldens), live_model(goldens)
    resident.apply(one, first)
    changed = recipe(
        goldens,
        "task_arithmetic",
        weights=one.weights | {"layer.1.q_proj": {"a": -1.0, "b": 0.3, "c": 0.2}},
    )
    resident.apply(changed, second)
    moved = {groups[name] for name in first if not torch.equal(first[name], second[name])}
    assert moved == {"layer.1.q_proj"}


@pytest.mark.parametrize("method", ["task_arithmetic", "resm"])
def test_tensors_merged_in_threads_have_the_same_bytes(
    method: str, goldens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, plain, threaded = recipe(goldens, method), live_model(goldens), live_model(goldens)
    ResidentMerge(one).apply(one, plain)
    monkeypatch.setattr(safemerge.resident, "THREADS_FROM_ENTRIES", 0)
    ResidentMerge(one).apply(one, threaded)
    assert all(torch.equal(plain[name], threaded[name]) for name in plain)


@pytest.mark.parametrize("method", [m.name for m in TABLE.values() if m.differentiable])
def test_a_gradient_reaches_every_weight(method: str, goldens: Path) -> None:
    one = recipe(goldens, method)
    resident = ResidentMerge(one)
    for name, tensor in resident.merged(one):
        row, found = resident.weight_gradient(name, one, tensor)
        assert row in range(len(resident.groups))
        assert bool((found != 0).all() and found.isfinite().all()), name


@pytest.mark.parametrize("method", ["task_arithmetic", "resm", "breadcrumbs", "iso_c"])
def test_the_projected_gradient_is_the_slope_of_the_merge(method: str, goldens: Path) -> None:
    """Of half the squared distance to 0, whose gradient with respect to the merge is the merge."""
    one = recipe(goldens, method)
    resident = ResidentMerge(one)
    shift = torch.tensor([1e-3, -2e-3, 1.5e-3])[: len(resident.source_names)]

    def loss(sign: int) -> float:
        weights = (torch.tensor(one.weights_at("all")) + sign * shift).tolist()
        moved = recipe(
            goldens,
            method,
            weights={"default": dict(zip(resident.source_names, weights, strict=True))},
        )
        return sum(tensor.double().square().sum().item() for _, tensor in resident.merged(moved))

    merged = dict(resident.merged(one))
    slope = sum(resident.weight_gradient(name, one, t)[1] @ shift for name, t in merged.items())
    assert float(slope) == pytest.approx((loss(1) - loss(-1)) / 4, rel=2e-2)


def test_another_method_source_or_profile_is_refused(goldens: Path) -> None:
    resident = ResidentMerge(recipe(goldens))
    live = live_model(goldens)
    for other in (
        recipe(goldens, "tsvm"),
        recipe(goldens, places="global"),
        recipe(goldens, params={"outliers": "clip"}),
    ):
        with pytest.raises(RecipeError, match="build a new ResidentMerge"):
            resident.apply(other, live)
    resident.apply(recipe(goldens, params={"outliers": "favour", "scale": 0.5}), live)


def test_a_live_model_of_another_architecture_is_refused(goldens: Path) -> None:
    live = live_model(goldens)
    del live["model.norm.weight"]
    with pytest.raises(RecipeError, match=r"no tensor 'model.norm.weight'"):
        ResidentMerge(recipe(goldens)).apply(recipe(goldens), live)


def test_same_recipe_same_hash_same_bytes(goldens: Path, tmp_path: Path) -> None:
    one = recipe(goldens)
    hashes = {merge(one, tmp_path / name) for name in ("x", "y")}
    assert len(hashes) == 1
    x, y = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("x", "y"))
    assert x == y


def test_factors_come_from_disk_the_second_time(
    goldens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TensorStore(tmp_path / "factors")
    first = dict(ResidentMerge(recipe(goldens), store=store).merged(recipe(goldens)))

    def forbidden(delta: torch.Tensor) -> NoReturn:
        raise AssertionError("factorised a second time")

    monkeypatch.setattr(safemerge.factors, "factorise", forbidden)
    again = dict(ResidentMerge(recipe(goldens), store=store).merged(recipe(goldens)))
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("method", sorted(n for n, m in METHODS.items() if m.slow_select))
def test_a_trial_that_comes_back_to_a_rank_computes_nothing_but_a_product(
    goldens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def at(ratio: float, scale: float) -> Recipe:
        one = recipe(goldens, method)
        return one.model_copy(
            update={"rank_ratio": {"default": ratio}, "params": {**one.params, "scale": scale}}
        )

    asked = (at(0.2, 1.0), at(0.5, 1.0), at(0.2, 0.7))
    plain = ResidentMerge(asked[0])
    expected = [dict(plain.merged(one)) for one in asked]
    held = ResidentMerge(asked[0], store=TensorStore(tmp_path))
    for one in asked[:2]:
        list(held.merged(one))

    def forbidden(*args: object, **kwargs: object) -> NoReturn:
        raise AssertionError("decorrelated a second time")

    monkeypatch.setattr(torch.linalg, "eigh", forbidden)
    monkeypatch.setattr(torch.linalg, "svd", forbidden)
    for again in (held, ResidentMerge(asked[0], store=TensorStore(tmp_path))):
        for one, tensors in zip(asked, expected, strict=True):
            for name, tensor in again.merged(one):
                assert torch.equal(tensor, tensors[name])


def test_factors_reproduce_the_delta() -> None:
    delta = torch.randn(9, 14, generator=torch.Generator().manual_seed(0)).bfloat16()
    factors = factorise(delta)
    product = (factors.u * factors.s) @ factors.v.T
    torch.testing.assert_close(product, delta.float(), atol=1e-5, rtol=0)


def test_inputs_that_are_not_the_pinned_ones_are_refused(goldens: Path, tmp_path: Path) -> None:
    one = recipe(goldens)
    contents = open_inputs(one).contents()
    pinned = one.model_copy(
        update={"base": one.base.model_copy(update={"content": contents["base"]})}
    )
    merge(pinned, tmp_path / "good")
    changed = one.model_copy(update={"base": one.base.model_copy(update={"content": "0" * 64})})
    with pytest.raises(CheckpointError, match="is not what the recipe was made with"):
        merge(changed, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_an_output_that_is_not_empty_is_kept(goldens: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        merge(recipe(goldens), tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_the_output_loads_in_transformers(goldens: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merge(recipe(goldens, dtype="bfloat16"), tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert model.dtype == torch.bfloat16
    AutoTokenizer.from_pretrained(tmp_path / "out")
    assert Recipe.load(tmp_path / "out/recipe.json").method == "resm"


def test_a_wider_output_keeps_the_digits_of_the_arithmetic(goldens: Path, tmp_path: Path) -> None:
    for name in ("base", "a", "b", "c"):
        shutil.copytree(goldens / "models" / name, tmp_path / "models" / name)
        file = tmp_path / "models" / name / "model.safetensors"
        save_file({key: value.bfloat16() for key, value in load_file(file).items()}, file)
    merged = {}
    for dtype in (None, "float32"):
        one = recipe(tmp_path, "task_arithmetic", dtype=dtype)
        merge(one, tmp_path / f"{dtype}")
        merged[dtype] = load_file(tmp_path / f"{dtype}" / "model.safetensors")
    for name, narrow in merged[None].items():
        assert torch.equal(merged["float32"][name].bfloat16(), narrow)
    assert any(not torch.equal(merged["float32"][n], merged[None][n].float()) for n in merged[None])


def test_a_place_group_that_does_not_exist_is_refused(goldens: Path, tmp_path: Path) -> None:
    wrong = recipe(goldens, rank_ratio={"layer.0.q_prj": 0.5})
    with pytest.raises(RecipeError, match=r"'layer.0.q_prj'.*did you mean layer.0.q_proj"):
        merge(wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_per_source_number_of_an_unknown_group_is_refused(goldens: Path) -> None:
    wrong = recipe(goldens, per_source={"density": {"layer.0.q_prj": {"a": 0.5}}})
    with pytest.raises(RecipeError, match=r"'layer.0.q_prj'.*did you mean layer.0.q_proj"):
        open_inputs(wrong).checked_groups(wrong)


def test_a_cache_that_cannot_be_written_is_no_obstacle(goldens: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    options = MergeOptions(store=TensorStore(tmp_path / "file" / "factors"))
    merge(recipe(goldens), tmp_path / "out", options=options)
    assert (tmp_path / "out/model.safetensors").exists()
