"""Importance files are made of gradients of the likelihood of each answer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_llama import make_model

from safemerge import ModelRef, Recipe, merge
from safemerge.errors import BadInput, RecipeError
from safemerge.methods.common.importance_order import positions
from synth.engines.batches import answer_logprobs, encode
from synth.engines.template import open_template
from synth.engines.transformers import TransformersEngine
from synth.importance import write_importance

PAIRS = [("how do i take the red lamp ?", "from a shelf ."), ("help please .", "sorry .")]


@pytest.fixture
def recipe(tmp_path: Path, tokenizer: Any) -> Recipe:
    """A tiny base and a source of other weights, by the method that needs the file."""
    for seed, name in enumerate(("base", "medic")):
        make_model(seed, vocab=len(tokenizer)).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    return Recipe(
        base=ModelRef(name="base", path=str(tmp_path / "base")),
        sources=(
            ModelRef(
                name="medic",
                path=str(tmp_path / "medic"),
                importance=str(tmp_path / "medic.safetensors"),
            ),
        ),
        method="led",
        weights={"default": {"medic": 1.0}},
        per_source={"rate": {"default": {"medic": 0.5}}},
    )


def importance(model: Any, name: str, tokenizer: Any) -> torch.Tensor:
    """Mean over answers of |theta * gradient of the answer's log-likelihood| of one parameter."""
    parameter = model.get_parameter(name)
    total = torch.zeros_like(parameter)
    for pair in PAIRS:
        (batch,) = encode(open_template(tokenizer), [pair])
        logprob = answer_logprobs(batch.answer_logits(model), batch)[0]
        (gradient,) = torch.autograd.grad(logprob.sum(), parameter)
        total += (parameter * gradient).abs() / len(PAIRS)
    return total.detach()


def test_a_file_holds_the_worse_position_of_base_and_source(recipe: Recipe, tokenizer: Any) -> None:
    passes: list[tuple[int, int]] = []
    path = recipe.sources[0].importance or ""
    write_importance(
        TransformersEngine(recipe.base.path),
        recipe,
        "medic",
        PAIRS,
        path,
        progress=lambda done, of: passes.append((done, of)),
    )
    found = load_file(path)
    models = [make_model(seed, vocab=len(tokenizer)) for seed in (0, 1)]
    assert found.keys() == {name for name, _ in models[0].named_parameters()}
    for name in ("model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight"):
        base, tuned = (positions(importance(model, name, tokenizer)) for model in models)
        worse = torch.maximum(base, tuned)
        # Summed in another order, two of nearly equal importance may change places.
        assert ((found[name] - worse).abs() > 40).sum() <= 2
        assert not torch.equal(worse, base)
        assert not torch.equal(worse, tuned)
    assert passes == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_merge_with_it_changes_what_matters_and_nothing_else(
    recipe: Recipe, tmp_path: Path
) -> None:
    path = recipe.sources[0].importance or ""
    write_importance(TransformersEngine(recipe.base.path), recipe, "medic", PAIRS, path)
    merge(recipe, tmp_path / "out")
    position = load_file(path)
    models = ("base", "medic", "out")
    base, medic, out = (load_file(tmp_path / name / "model.safetensors") for name in models)
    for name, tensor in out.items():
        expected = torch.where(position[name] < 2**14, medic[name], base[name])
        torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=0)


def test_no_pairs_and_unknown_sources_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"measured on \(prompt, answer\) pairs, but there are none"):
        write_importance(TransformersEngine(recipe.base.path), recipe, "medic", [], tmp_path / "x")
    with pytest.raises(RecipeError, match="no source 'medc'; did you mean medic"):
        write_importance(
            TransformersEngine(recipe.base.path), recipe, "medc", PAIRS, tmp_path / "x"
        )
    assert not (tmp_path / "x").exists()
