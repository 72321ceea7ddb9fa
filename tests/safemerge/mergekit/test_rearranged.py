"""Merges whose vocabulary, depth or experts are not as the models store them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from torch import Tensor

from safemerge.errors import CheckpointError, RecipeError
from safemerge.io import fuse_experts, open_checkpoint
from safemerge.mergekit import from_mergekit
from search.cli.standalone import merge

GOLDENS = Path(__file__).parents[2] / "data" / "goldens"
TABLES = ["lm_head.weight", "model.embed_tokens.weight"]
PLAIN = ["<s>", "a", "b", "c"]


def model(
    folder: Path, tokens: list[str], added: list[str], rows: int, seed: int, layers: int = 2
) -> Path:
    """A tiny checkpoint with a tokenizer of those tokens, and as many rows as given."""
    folder.mkdir()
    random = torch.Generator().manual_seed(seed)
    shapes = dict.fromkeys(TABLES, (rows, 4)) | {"model.norm.weight": (4,)}
    shapes |= {f"model.layers.{i}.mlp.up_proj.weight": (3, 4) for i in range(layers)}
    tensors = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "tiny", "vocab_size": rows, "num_hidden_layers": layers}
    config |= {"tie_word_embeddings": False, "layer_types": [f"kind {i}" for i in range(layers)]}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[]))
    tokenizer.add_tokens(added)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {}}))
    return folder


@pytest.fixture
def three(tmp_path: Path) -> dict[str, Path]:
    """The base, a model with two more tokens, and one with others in another order and padding."""
    return {
        "base": model(tmp_path / "base", PLAIN, ["<unused>"], 4, seed=0),
        "chat": model(tmp_path / "chat", PLAIN, ["<u>", "<v>"], 6, seed=1),
        "other": model(tmp_path / "other", ["c", "b", "<s>", "x"], ["<v>", "<u>"], 8, seed=2),
    }


def written(folder: Path, record: Mapping[str, object]) -> Path:
    path = folder / "merge.yml"
    path.write_text(json.dumps(record))
    return path


def merged(folder: Path, record: Mapping[str, object]) -> tuple[dict[str, Tensor], Path]:
    merge(written(folder, record), folder / "out")
    return load_file(folder / "out" / "model.safetensors"), folder / "out"


def of_deltas(three: dict[str, Path], **more: object) -> dict[str, object]:
    models = [{"model": str(three[name]), "parameters": {"weight": 0.5}} for name in three]
    return {
        "merge_method": "task_arithmetic",
        "base_model": str(three["base"]),
        "models": models,
        **more,
    }


def by_token(folder: Path, table: Tensor) -> dict[str, Tensor]:
    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    return {token: table[row] for token, row in vocabulary.items() if row < len(table)}


# ---- one vocabulary --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "tokens"),
    [
        ("union", {*PLAIN, "x", "<u>", "<v>"}),
        ("base", {*PLAIN}),
        ("chat", {*PLAIN, "<u>", "<v>"}),
    ],
)
@pytest.mark.parametrize("name", TABLES)
def test_tables_are_merged_in_one_vocabulary(
    tmp_path: Path, three: dict[str, Path], source: str, tokens: set[str], name: str
) -> None:
    chosen = str(three[source]) if source == "chat" else source
    tensors, out = merged(tmp_path, of_deltas(three, tokenizer_source=chosen))
    tables = {
        key: by_token(folder, load_file(folder / "model.safetensors")[name])
        for key, folder in three.items()
    }
    found = by_token(out, tensors[name])
    assert found.keys() == tokens
    assert len(tensors[name]) == len(tokens)
    assert json.loads((out / "config.json").read_text())["vocab_size"] == len(tokens)
    for token in tokens:
        having = [table[token] for table in tables.values() if token in table]
        # Of a token that the base lacks and two have: their mean; of one: its row; else the base's.
        filler = tables["base"].get(token, torch.stack(having).mean(dim=0))
        base, *rest = (table.get(token, filler) for table in tables.values())
        expected = base + sum(0.5 * (row - base) for row in rest)
        torch.testing.assert_close(found[token], expected, atol=1e-6, rtol=0)


def test_new_tokens_are_known_to_the_merged_tokenizer(
    tmp_path: Path, three: dict[str, Path]
) -> None:
    _, out = merged(tmp_path, of_deltas(three, tokenizer_source="union"))
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    assert [tokenizer.token_to_id(token) for token in PLAIN] == [0, 1, 2, 3]
    assert tokenizer.encode("<u>a<v>").tokens == ["<u>", "a", "<v>"]
    listed = json.loads((out / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    assert {"<u>", "<v>", "x"} == {entry["content"] for entry in listed.values()}
    assert "the union of its models' tokenizers" in (out / "README.md").read_text()


def test_tokens_have_the_rows_that_are_chosen(tmp_path: Path, three: dict[str, Path]) -> None:
    tokens = {
        "x": {"source": {"kind": "zero"}},
        "a": {"source": str(three["chat"]), "force": True},
        "<new>": {"source": {"kind": "model_token", "model": str(three["base"]), "token": "b"}},
        "<row>": {"source": {"kind": "model_token", "model": str(three["other"]), "token_id": 7}},
    }
    block = {"source": "union", "tokens": tokens, "pad_to_multiple_of": 16}
    tensors, out = merged(tmp_path, of_deltas(three, tokenizer=block))
    rows = {key: load_file(f / "model.safetensors")[TABLES[0]] for key, f in three.items()}
    found = by_token(out, tensors[TABLES[0]])
    assert tensors[TABLES[0]].shape == (16, 4)
    torch.testing.assert_close(found["x"], 0.5 * rows["other"][3])  # zero in the other two
    torch.testing.assert_close(found["a"], rows["chat"][1])
    torch.testing.assert_close(found["<new>"], rows["base"][2])
    torch.testing.assert_close(found["<row>"], rows["other"][7])
    used = len(Tokenizer.from_file(str(out / "tokenizer.json")).get_vocab())
    assert used == 9
    mean = tensors[TABLES[0]][:used].mean(dim=0)
    torch.testing.assert_close(tensors[TABLES[0]][used:], mean.expand(16 - used, 4))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ({"a": {"source": "other"}}, "'a' is to have the row of 'a' in .*other, whose tokenizer"),
        (
            {"a": {"source": {"kind": "model_token", "model": "other", "token_id": 8}}},
            "row 8 of .*other, which has 8",
        ),
    ],
)
def test_a_row_that_its_model_lacks_is_refused(
    tmp_path: Path,
    three: dict[str, Path],
    tokens: object,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {name: Path(name) for name in three}
    with pytest.raises(CheckpointError, match=message):
        merged(tmp_path, of_deltas(names, tokenizer={"tokens": tokens}))
    assert not (tmp_path / "out").exists()


def test_tokenizers_of_different_kinds_have_no_union(
    tmp_path: Path, three: dict[str, Path]
) -> None:
    words = Tokenizer(models.WordLevel(vocab={"a": 0, "b": 1}, unk_token="a"))
    words.save(str(three["other"] / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=r"are of different kinds .*, so they have no union"):
        merged(tmp_path, of_deltas(three, tokenizer_source="union"))


# ---- layers ----------------------------------------------------------------------------------


def test_layers_are_stacked_as_the_slices_say(tmp_path: Path) -> None:
    base = str(model(tmp_path / "plain", PLAIN, [], 4, seed=4))
    chat = str(model(tmp_path / "same", PLAIN, [], 4, seed=5, layers=3))
    scale = [{"filter": "up_proj", "value": 0.0}, {"value": 2.0}]
    slices = [
        {"sources": [{"model": base, "layer_range": [1, 2]}]},
        {"sources": [{"model": chat, "layer_range": [1, 3]}]},
        {"sources": [{"model": chat, "layer_range": [0, 1], "parameters": {"scale": scale}}]},
    ]
    tensors, out = merged(tmp_path, {"merge_method": "passthrough", "slices": slices})
    one, two = (load_file(Path(folder) / "model.safetensors") for folder in (base, chat))
    layer = "model.layers.{}.mlp.up_proj.weight".format
    expected = {
        layer(0): one[layer(1)],
        layer(1): two[layer(1)],
        layer(2): two[layer(2)],
        layer(3): 0 * two[layer(0)],
        "model.embed_tokens.weight": one["model.embed_tokens.weight"],
        "model.norm.weight": 2 * two["model.norm.weight"],
        "lm_head.weight": 2 * two["lm_head.weight"],
    }
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    config = json.loads((out / "config.json").read_text())
    assert config["num_hidden_layers"] == 4
    assert config["layer_types"] == ["kind 1", "kind 1", "kind 2", "kind 0"]
    assert "Stacked: this model has 4 layers" in (out / "README.md").read_text()
    merge(out / "recipe.json", tmp_path / "again")
    again = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert again == (out / "model.safetensors").read_bytes()


def test_other_layers_of_several_models_are_merged(tmp_path: Path) -> None:
    base = model(tmp_path / "plain", PLAIN, [], 4, seed=4)
    other = model(tmp_path / "same", PLAIN, [], 4, seed=5)
    sources = [
        {"model": str(base), "layer_range": [0, 2], "parameters": {"weight": 0.25}},
        {"model": str(other), "layer_range": [0, 2], "parameters": {"weight": 0.75}},
    ]
    turned = [{**sources[0], "layer_range": [1, 2]}, {**sources[1], "layer_range": [0, 1]}]
    slices = [{"sources": sources}, {"sources": turned}]
    tensors, _ = merged(tmp_path, {"merge_method": "linear", "slices": slices})
    one, two = (load_file(f / "model.safetensors") for f in (base, other))
    layer = "model.layers.{}.mlp.up_proj.weight".format
    expected = 0.25 * one[layer(1)] + 0.75 * two[layer(0)]
    torch.testing.assert_close(tensors[layer(2)], expected, atol=1e-6, rtol=0)


def test_a_stacked_llama_loads_with_its_new_depth(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = str(GOLDENS / "fp32" / "models" / "a")
    part = {"sources": [{"model": folder, "layer_range": [0, 2]}]}
    _, out = merged(tmp_path, {"merge_method": "passthrough", "slices": [part, part]})
    live = AutoModelForCausalLM.from_pretrained(out)
    assert len(live.model.layers) == 4
    assert torch.isfinite(live(torch.tensor([[1, 2, 3]])).logits).all()


@pytest.mark.parametrize(
    ("width", "layers", "message"),
    [
        (4, [1, 3], r"slices\[1\] takes layers up to 3 of .*wide, which has 2"),
        (5, [0, 1], "only layers of the same widths can be stacked"),
    ],
)
def test_layers_that_cannot_be_stacked_are_refused(
    tmp_path: Path, width: int, layers: list[int], message: str
) -> None:
    base = model(tmp_path / "plain", PLAIN, [], 4, seed=4)
    wide = model(tmp_path / "wide", PLAIN, [], 4, seed=5)
    slices = [
        {"sources": [{"model": str(base), "layer_range": [0, 2]}]},
        {"sources": [{"model": str(wide), "layer_range": layers}]},
    ]
    tensors = load_file(wide / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(3, width)
    save_file(tensors, wide / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=message):
        merged(tmp_path, {"merge_method": "passthrough", "slices": slices})
    assert not (tmp_path / "out").exists()


# ---- experts ---------------------------------------------------------------------------------


def mixture(folder: Path, seed: int) -> Path:
    """Three experts of one layer, each stored by itself, as Mixtral's."""
    folder.mkdir()
    random = torch.Generator().manual_seed(seed)
    stem = "model.layers.0.block_sparse_moe"
    shapes = {f"{stem}.gate.weight": (3, 4), "model.norm.weight": (4,)}
    for expert in range(3):
        for name, shape in (("w1", (6, 4)), ("w2", (4, 6)), ("w3", (6, 4))):
            shapes[f"{stem}.experts.{expert}.{name}.weight"] = shape
    tensors = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "mixtral"}))
    return folder


def test_a_threshold_is_one_of_all_experts_of_a_layer(tmp_path: Path) -> None:
    base, tuned = mixture(tmp_path / "base", 0), mixture(tmp_path / "tuned", 1)
    record = {
        "merge_method": "ties",
        "base_model": str(base),
        "models": [{"model": str(tuned), "parameters": {"weight": 1, "density": 0.3}}],
    }
    tensors, _ = merged(tmp_path, record)
    old, new = (load_file(folder / "model.safetensors") for folder in (base, tuned))
    assert tensors.keys() == old.keys()  # stored as the base stores them
    stem = "model.layers.0.block_sparse_moe.experts"
    for kinds in (("w1", "w3"), ("w2",)):
        names = [f"{stem}.{expert}.{kind}.weight" for expert in range(3) for kind in kinds]
        deltas = torch.cat([(new[name] - old[name]).flatten() for name in names])
        least = deltas.abs().sort(descending=True).values[int(0.3 * len(deltas)) - 1]
        for name in names:
            delta = new[name] - old[name]
            expected = old[name] + delta * (delta.abs() >= least)
            torch.testing.assert_close(tensors[name], expected, atol=1e-6, rtol=0)


def test_filters_know_experts_by_the_names_of_the_live_model(tmp_path: Path) -> None:
    base, tuned = mixture(tmp_path / "base", 0), mixture(tmp_path / "tuned", 1)
    weight = [{"filter": "mlp.experts.gate_up_proj", "value": 1}, {"value": 0}]
    record = {
        "merge_method": "task_arithmetic",
        "base_model": str(base),
        "models": [{"model": str(tuned), "parameters": {"weight": weight}}],
    }
    tensors, _ = merged(tmp_path, record)
    old, new = (load_file(folder / "model.safetensors") for folder in (base, tuned))
    for name in old:
        expected = new[name] if name.endswith(("w1.weight", "w3.weight")) else old[name]
        torch.testing.assert_close(tensors[name], expected, atol=1e-6, rtol=0)


def test_a_mixture_that_lacks_an_expert_stays_as_it_is_stored(tmp_path: Path) -> None:
    folder = mixture(tmp_path / "base", 0)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.0.block_sparse_moe.experts.1.w2.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    view, parts = fuse_experts(open_checkpoint(folder))
    assert "model.layers.0.mlp.experts.gate_up_proj" in parts
    assert "model.layers.0.block_sparse_moe.experts.0.w2.weight" in view.tensors


def test_a_recipe_that_names_no_model_of_its_own_is_refused(tmp_path: Path) -> None:
    text = json.dumps({"merge_method": "linear", "models": [{"model": "a"}]})
    recipe = from_mergekit(written(tmp_path, json.loads(text) | {"parameters": {"weight": 1}}))
    record = json.loads(recipe.canonical_json()) | {"stack": [{"z": [0, 1]}]}
    with pytest.raises(RecipeError, match="there is no model 'z'; the recipe's are"):
        type(recipe).from_json(json.dumps(record))
