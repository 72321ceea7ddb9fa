"""tokenizer = "base": rows of embeddings and heads follow their tokens, whatever their ids."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from safemerge import Recipe, merge
from safemerge.errors import CheckpointError
from safemerge.inputs import open_inputs
from safemerge.io import TokenMap, token_map

GOLDENS = Path(__file__).parents[2] / "data" / "goldens"
MODELS = GOLDENS / "fp32" / "models"
LORA = GOLDENS / "lora" / "llama"
TABLES = ("model.embed_tokens.weight", "lm_head.weight")
Edit = Callable[[dict[str, Any]], object]


def recipe(source: Path, tokenizer: str | None = "base", base: Path = MODELS / "base") -> Recipe:
    return Recipe.model_validate(
        {
            "base": {"name": "base", "path": str(base)},
            "sources": [{"name": "a", "path": str(source)}],
            "method": "task_arithmetic",
            "weights": {"default": {"a": 0.7}},
            "tokenizer": tokenizer,
        }
    )


def edit_tokenizer(folder: Path, change: Edit) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def renumbered(out: Path, order: list[int], rows: int) -> Path:
    """The golden source `a` with the token of old id order[i] at id i, in tables of `rows` rows."""
    shutil.copytree(MODELS / "a", out)

    def renumber(content: dict[str, Any]) -> None:
        names = {id_: token for token, id_ in content["model"]["vocab"].items()}
        tokens = {token["id"]: token for token in content["added_tokens"]}
        content["model"]["vocab"] = {names[old]: new for new, old in enumerate(order)}
        content["added_tokens"] = [
            tokens[old] | {"id": new} for new, old in enumerate(order) if old in tokens
        ]

    edit_tokenizer(out, renumber)
    tensors = load_file(MODELS / "a" / "model.safetensors")
    for name in TABLES:
        table = torch.full((rows, 32), 99.0)
        table[: len(order)] = tensors[name][order]
        tensors[name] = table
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((out / "config.json").read_text()) | {"vocab_size": rows}
    (out / "config.json").write_text(json.dumps(config))
    return out


@pytest.fixture
def shuffled(tmp_path: Path) -> Path:
    """`a` with its tokens in another order, in a longer table."""
    order = torch.randperm(96, generator=torch.Generator().manual_seed(0)).tolist()
    return renumbered(tmp_path / "shuffled", order, 100)


def test_a_source_with_shuffled_ids_merges_like_the_original(
    shuffled: Path, tmp_path: Path
) -> None:
    merge(recipe(shuffled), tmp_path / "out")
    merge(recipe(MODELS / "a", None), tmp_path / "plain")
    found, expected = (load_file(tmp_path / n / "model.safetensors") for n in ("out", "plain"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    tokenizers = [(f / "tokenizer.json").read_bytes() for f in (tmp_path / "out", MODELS / "base")]
    assert tokenizers[0] == tokenizers[1]


def test_a_token_that_the_source_lacks_keeps_the_base_row(tmp_path: Path) -> None:
    order = [i for i in range(96) if i not in (7, 40)]
    inputs = open_inputs(recipe(renumbered(tmp_path / "short", order, 94)))
    plain = open_inputs(recipe(MODELS / "a", None))
    for name in TABLES:
        (_, (found,)), (_, (expected,)) = inputs.load(name), plain.load(name)
        expected = expected.clone()
        assert expected[[7, 40]].abs().max() > 0
        expected[[7, 40]] = 0.0
        assert torch.equal(found, expected)
    assert inputs.load("model.norm.weight")[1].equal(plain.load("model.norm.weight")[1])
    whole = inputs.source_tensor(0, TABLES[0])
    assert torch.equal(whole[7], inputs.base.load(TABLES[0])[7])


def test_mapped_rows_equal_the_reference(tmp_path: Path) -> None:
    order = [i for i in reversed(range(96)) if i not in (7, 40)]
    merge(recipe(renumbered(tmp_path / "reversed", order, 94)), tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    for name, expected in load_file(GOLDENS / "tokens.safetensors").items():
        torch.testing.assert_close(found[name], expected, atol=2e-6, rtol=0)


def test_equal_tokenizers_change_nothing(tmp_path: Path) -> None:
    merge(recipe(MODELS / "a"), tmp_path / "out")
    merge(recipe(MODELS / "a", None), tmp_path / "plain")
    pair = [(tmp_path / n / "model.safetensors").read_bytes() for n in ("out", "plain")]
    assert pair[0] == pair[1]


def test_a_source_without_a_tokenizer_counts_as_the_bases(shuffled: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(MODELS / "a", tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    assert open_inputs(recipe(bare)).sources[0].tokens is None
    (shuffled / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"vocab_size is 96 in .*base and 100 in .*shuffled"):
        open_inputs(recipe(shuffled))


def test_without_it_the_refusal_names_it(shuffled: Path) -> None:
    with pytest.raises(CheckpointError, match="or tokenizer = 'base' to map theirs to it"):
        open_inputs(recipe(shuffled, None))


def test_an_adapter_with_tokens_of_its_own(tmp_path: Path) -> None:
    """Chat tokens at the end of a longer table, which the base's tokenizer never reaches."""
    folder = shutil.copytree(LORA, tmp_path / "adapter")
    shutil.copy(MODELS / "base" / "tokenizer.json", folder)
    plain = open_inputs(recipe(LORA))
    edit_tokenizer(folder, lambda c: c["added_tokens"].append({"id": 96, "content": "<|end|>"}))
    tensors = load_file(LORA / "adapter_model.safetensors")
    wrapped = "base_model.model.model.embed_tokens."
    for name in ("base_model.model.lm_head.weight", f"{wrapped}base_layer.weight"):
        tensors[name] = torch.cat([tensors[name], torch.ones(1, 32)])
    factor = tensors[f"{wrapped}lora_embedding_A"]
    tensors[f"{wrapped}lora_embedding_A"] = torch.cat([factor, torch.ones(3, 1)], dim=1)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    mapped = open_inputs(recipe(folder))
    for name in TABLES:
        assert torch.equal(mapped.load(name)[1], plain.load(name)[1])
    with pytest.raises(CheckpointError, match="or tokenizer = 'base' if only its tokens are other"):
        open_inputs(recipe(folder, None))


@settings(max_examples=40)
@given(data=st.data())
def test_every_row_goes_where_its_token_is(data: st.DataObject) -> None:
    ours = data.draw(st.lists(st.integers(0, 30), unique=True, min_size=1))
    theirs = data.draw(st.lists(st.integers(0, 30), unique=True, min_size=1))
    shared = [token for token in ours if token in theirs]
    pairs = [(ours.index(token), theirs.index(token)) for token in shared]
    base_ids, source_ids = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(1)
    rest = -torch.ones(len(ours) + data.draw(st.integers(0, 2)), 1)
    tokens = TokenMap(base_ids, source_ids, identical=ours == theirs)
    found = tokens.to_base(torch.tensor(theirs, dtype=torch.float32)[:, None], rest)
    for row, token in zip(found, [*ours, *[-1] * (len(rest) - len(ours))], strict=True):
        assert row.item() == (token if token in theirs else -1)


def test_a_table_shorter_than_its_tokenizer_ends_the_map() -> None:
    tokens = TokenMap(torch.tensor([0, 1, 5]), torch.tensor([1, 7, 0]), identical=False)
    found = tokens.to_base(torch.tensor([[10.0], [11.0]]), torch.zeros(3, 1))
    assert found.flatten().tolist() == [11.0, 0.0, 0.0]


BYTES = {"pre_tokenizer": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {"a": 0}}}
PIECES = {
    "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    "model": {"type": "BPE", "vocab": {"a": 0}},
}
UNIGRAM = {"decoder": {"type": "Metaspace"}, "model": {"type": "Unigram", "vocab": [["a", -1.0]]}}
OTHER = {"decoder": {"type": "Metaspace"}, "model": {"type": "Unigram", "vocab": [["b", -1.0]]}}
TWICE = {**PIECES, "added_tokens": [{"id": 3, "content": "a"}]}


def folder_with(path: Path, tokenizer: dict[str, Any] | None) -> Path:
    path.mkdir()
    if tokenizer is not None:
        (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    return path


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        (PIECES, BYTES, "written differently (as bytes there, sentence pieces in the base)"),
        (UNIGRAM, OTHER, "they share no token"),
        (PIECES, TWICE, "the token 'a' has the ids 0 and 3 in the tokenizer of"),
        (None, PIECES, "base has no tokenizer.json, by which tokenizer = 'base' maps tokens"),
    ],
)
def test_what_cannot_be_mapped_is_refused(
    ours: dict[str, Any] | None, theirs: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    base, source = folder_with(tmp_path / "base", ours), folder_with(tmp_path / "source", theirs)
    with pytest.raises(CheckpointError) as caught:
        token_map(base, source)
    assert reason in str(caught.value)


def test_old_tokenizers_cannot_be_mapped(tmp_path: Path) -> None:
    base, source = folder_with(tmp_path / "base", PIECES), folder_with(tmp_path / "old", None)
    (source / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"old has no tokenizer\.json, by which"):
        token_map(base, source)


def test_pieces_of_another_algorithm_are_the_same_tokens(tmp_path: Path) -> None:
    found = token_map(
        folder_with(tmp_path / "base", PIECES), folder_with(tmp_path / "source", UNIGRAM)
    )
    assert found is not None
    assert (found.base_ids.tolist(), found.source_ids.tolist()) == ([0], [0])
