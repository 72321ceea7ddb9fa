"""LED's masks against the published rule, positions, and the files that they come from."""

from pathlib import Path

import pytest
import torch
from examples import source
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from safemerge import ModelRef, Recipe, merge
from safemerge.errors import CheckpointError, RecipeError
from safemerge.factors import factorise
from safemerge.inputs import open_inputs
from safemerge.io import save_importance
from safemerge.methods import METHODS, Selection, Site
from safemerge.methods.common.importance_order import POSITIONS, positions


def merged(deltas: Tensor, position: Tensor, rates: tuple[float, ...]) -> Tensor:
    """LED onto a base of zeros, all weights 1."""
    method = METHODS["led"]
    params = method.parse({})
    base = torch.zeros_like(deltas[0])
    site = Site("model.norm.weight", tuple("abc"[: len(deltas)]), factorise, position)
    assert method.select is not None
    state = method.prepare(base, deltas, params, site)
    state = method.select(state, Selection(None, None, {"rate": rates}), params)
    return method.merged(base, state, torch.ones(len(deltas)), params)


def top(importance: Tensor, share: float) -> Tensor:
    """Whether each entry is among the most important ones."""
    mask = torch.zeros(importance.numel(), dtype=torch.bool)
    mask[importance.flatten().argsort(descending=True)[: round(share * mask.numel())]] = True
    return mask.reshape(importance.shape)


def test_masks_are_those_of_the_published_rule() -> None:
    """N_i = top of the base and top of the source; mask_i = N_i less all others."""
    random = torch.Generator().manual_seed(0)
    deltas = torch.randn(3, 8, 10, generator=random)
    of_base, of_source = torch.rand(2, 3, 8, 10, generator=random)
    rates = (0.1, 0.5, 0.75)
    located = [
        top(base, rate) & top(tuned, rate)
        for base, tuned, rate in zip(of_base, of_source, rates, strict=True)
    ]
    expected = torch.zeros(8, 10)
    for i, delta in enumerate(deltas):
        others = torch.stack([mask for j, mask in enumerate(located) if j != i]).any(dim=0)
        expected += (located[i] & ~others) * delta
    worse = torch.stack(
        [
            torch.maximum(positions(base), positions(tuned))
            for base, tuned in zip(of_base, of_source, strict=True)
        ]
    )
    found = merged(deltas, worse, rates)
    assert found.count_nonzero() > 10
    assert torch.equal(found, expected)


def test_rates_0_and_1() -> None:
    """At rate 0 nothing is located; at rate 1 all is, by every source, so none has it alone."""
    deltas = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    position = torch.stack([positions(delta.abs()) for delta in deltas])
    assert not merged(deltas, position, (0.0, 0.0)).any()
    assert not merged(deltas, position, (1.0, 1.0)).any()
    assert torch.equal(merged(deltas, position, (1.0, 0.0)), deltas[0])
    assert torch.equal(merged(deltas[:1], position[:1], (1.0,)), deltas[0])


@given(st.lists(st.integers(0, 9), max_size=60), st.floats(0, 1))
def test_no_more_than_the_share_is_before_it_but_for_the_last_level(
    values: list[int], share: float
) -> None:
    found = positions(torch.tensor(values, dtype=torch.float32))
    assert found.dtype == torch.int16
    chosen = (found < share * POSITIONS).sum().item()
    assert chosen <= share * len(values) + 1
    if share == 1.0:
        assert chosen == len(values)


def test_equal_entries_come_last_together() -> None:
    found = positions(torch.tensor([[0.0, 5.0], [0.0, 7.0]]))
    assert found.tolist() == [[3 * POSITIONS // 4, POSITIONS // 4], [3 * POSITIONS // 4, 0]]


def recipe(goldens: Path, **changes: str | None) -> Recipe:
    """Sources a and b with importance files; `changes` names other ones."""
    refs = [source(goldens / "models" / name, METHODS["led"]) for name in "ab"]
    return Recipe(
        base=ModelRef(name="base", path=str(goldens / "models/base")),
        sources=tuple(
            ref.model_copy(update={"importance": changes.get(ref.name, ref.importance)})
            for ref in refs
        ),
        method="led",
        weights={"default": {"a": 1.0, "b": 1.0}},
    )


def test_a_source_without_a_file_is_refused_with_the_way_to_one(
    goldens: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        RecipeError,
        match=r"'led' needs an importance file of every source, and 'b' has none; "
        r"write it with `safemerge importance`",
    ):
        merge(recipe(goldens, b=None), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_the_bases_is_refused(goldens: Path, tmp_path: Path) -> None:
    good = load_file(recipe(goldens).sources[1].importance or "")
    path = tmp_path / "bad.safetensors"
    name = "model.norm.weight"
    for bad, message in (
        ({k: v for k, v in good.items() if k != name}, f"says nothing of the tensor '{name}'"),
        (good | {name: good[name][:3].clone()}, rf"'{name}' as torch.int16 \[3\], where int16"),
        (good | {name: good[name].float()}, rf"'{name}' as torch.float32"),
    ):
        save_file(bad, path)
        with pytest.raises(CheckpointError, match=message):
            merge(recipe(goldens, b=str(path)), tmp_path / "out")
        assert not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match=r"none.safetensors cannot be read: No such file"):
        merge(recipe(goldens, b=str(tmp_path / "none.safetensors")), tmp_path / "out")


def test_the_hash_covers_what_a_file_says_and_not_where_it_lies(
    goldens: Path, tmp_path: Path
) -> None:
    one = recipe(goldens)
    tensors = load_file(one.sources[1].importance or "")
    save_importance(tmp_path / "moved.safetensors", tensors)
    tensors["model.norm.weight"][0] += 1
    save_importance(tmp_path / "changed.safetensors", tensors)

    def digest(of: Recipe) -> str:
        return of.hash(open_inputs(of).contents())

    assert digest(one) == digest(recipe(goldens, b=str(tmp_path / "moved.safetensors")))
    assert digest(one) != digest(recipe(goldens, b=str(tmp_path / "changed.safetensors")))


def test_a_recipe_file_may_name_a_file_beside_it(goldens: Path, tmp_path: Path) -> None:
    one = recipe(goldens)
    save_importance(tmp_path / "b.safetensors", load_file(one.sources[1].importance or ""))
    recipe(goldens, b="b.safetensors").save(tmp_path / "recipe.json")
    loaded = Recipe.load(tmp_path / "recipe.json")
    assert loaded.sources[1].importance == str(tmp_path / "b.safetensors")
    merge(loaded, tmp_path / "out")
