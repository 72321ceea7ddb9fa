"""Checkpoints that do not fit each other are refused with both sides named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from safemerge.errors import CheckpointError
from safemerge.io import check_tokenizers, open_checkpoint
from safemerge.io.compat import check_compatible, check_finite

Make = Callable[..., Path]
MODELS = Path(__file__).parents[2] / "data" / "goldens" / "fp32" / "models"


def test_sources_of_one_base_are_compatible() -> None:
    base, *sources = (open_checkpoint(MODELS / name) for name in ("base", "a", "b", "c"))
    for source in sources:
        check_compatible(base, source)
    check_tokenizers(base.folder, [source.folder for source in sources])


def test_dtype_may_differ_and_a_tied_copy_may_be_stored(make: Make) -> None:
    embed = torch.randn(4, 3).bfloat16()
    base = make("base", {"model.embed_tokens.weight": embed}, tie_word_embeddings=True)
    wide = {"model.embed_tokens.weight": embed.float(), "lm_head.weight": embed.float()}
    source = make("source", wide, tie_word_embeddings=True)
    check_compatible(open_checkpoint(base), open_checkpoint(source))


def test_shape_differences_are_listed_with_both_shapes_and_folders(make: Make) -> None:
    base = make("base", {f"w{i}": torch.ones(2, 3) for i in range(5)})
    source = make("source", {f"w{i}": torch.ones(3, 3) for i in range(5)})
    with pytest.raises(CheckpointError) as caught:
        check_compatible(open_checkpoint(base), open_checkpoint(source))
    message = str(caught.value)
    assert f"{source} does not fit the base {base}" in message
    assert "w0 is [2, 3] in the base, [3, 3] here" in message
    assert "w2" in message
    assert "w3" not in message
    assert "; and 2 more" in message


def test_names_on_one_side_only_are_listed(make: Make) -> None:
    base = make("base", {"a": torch.ones(1), "b": torch.ones(1)})
    source = make("source", {"a": torch.ones(1), "c": torch.ones(1)})
    with pytest.raises(CheckpointError, match="b is only in the base; c is only in the source"):
        check_compatible(open_checkpoint(base), open_checkpoint(source))


def test_a_bare_decoder_beside_a_whole_model_is_refused_with_the_remedy(make: Make) -> None:
    names = ("h.0.attn.c_attn.weight", "wte.weight")
    bare = make("bare", {**{n: torch.ones(2) for n in names}, "h.0.attn.bias": torch.ones(1)})
    whole = make("whole", {f"transformer.{n}": torch.ones(2) for n in names})
    for base, source in ((bare, whole), (whole, bare)):
        with pytest.raises(CheckpointError) as caught:
            check_compatible(open_checkpoint(base), open_checkpoint(source))
        message = f"{bare} stores a bare decoder (h.0.attn.c_attn.weight), and {whole} the model"
        assert message in str(caught.value)
        assert "save the former again with AutoModelForCausalLM" in str(caught.value)


def test_an_integer_buffer_against_a_float_tensor_is_refused(make: Make) -> None:
    base = make("base", {"a": torch.ones(2)})
    source = make("source", {"a": torch.ones(2, dtype=torch.int64)})
    with pytest.raises(CheckpointError, match="a is float32 in the base, int64 here"):
        check_compatible(open_checkpoint(base), open_checkpoint(source))


def test_another_vocabulary_size_is_refused(make: Make) -> None:
    base = make("base", {"a": torch.ones(2)}, vocab_size=10)
    source = make("source", {"a": torch.ones(2)}, vocab_size=12)
    with pytest.raises(CheckpointError, match=r"vocab_size is 10 in .*base and 12 in .*source"):
        check_compatible(open_checkpoint(base), open_checkpoint(source))


def test_a_tied_against_an_untied_head_is_refused(make: Make) -> None:
    embed = torch.randn(4, 3)
    tied = make("base", {"model.embed_tokens.weight": embed}, tie_word_embeddings=True)
    own = {"model.embed_tokens.weight": embed, "lm_head.weight": embed + 1}
    untied = make("source", own, tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"lm_head.weight is tied to the embedding in .*base"):
        check_compatible(open_checkpoint(tied), open_checkpoint(untied))


def edit_tokenizer(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def swap_two_words(content: dict[str, Any]) -> None:
    vocab = content["model"]["vocab"]
    vocab["w17"], vocab["w18"] = vocab["w18"], vocab["w17"]


@pytest.mark.parametrize(
    ("change", "example"),
    [
        (swap_two_words, "id 17 is 'w17' in the first and 'w18' in the second"),
        (
            lambda t: t["added_tokens"].append({"id": 96, "content": "<|im_end|>"}),
            "id 96 is nothing in the first and '<|im_end|>' in the second",
        ),
        (
            lambda t: t["added_tokens"][2].update(content="<eot>"),
            "id 2 is '</s>' in the first and '<eot>' in the second",
        ),
        (lambda t: t["model"].update(merges=["w 1"]), "BPE merge number 0 is another"),
    ],
)
def test_a_differing_token_is_shown(
    golden: Path, change: Callable[[dict[str, Any]], None], example: str
) -> None:
    edit_tokenizer(golden, change)
    with pytest.raises(CheckpointError) as caught:
        check_tokenizers(MODELS / "base", [golden])
    message = str(caught.value)
    assert f"the tokenizers of {MODELS / 'base'} and {golden} differ: {example}" in message


def test_both_spellings_of_bpe_merges_agree(make: Make) -> None:
    folders = [make(name, {"w": torch.ones(1)}) for name in ("old", "new")]
    for folder, merges in zip(folders, (["a b"], [["a", "b"]]), strict=True):
        model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": merges}
        (folder / "tokenizer.json").write_text(json.dumps({"model": model}))
    check_tokenizers(folders[0], folders[1:])


def test_unigram_pieces_are_compared_by_position(make: Make) -> None:
    folders = [make(name, {"w": torch.ones(1)}) for name in ("one", "two")]
    for folder, pieces in zip(folders, (["a", "b"], ["a", "c"]), strict=True):
        model = {"type": "Unigram", "vocab": [[piece, -1.0] for piece in pieces]}
        (folder / "tokenizer.json").write_text(json.dumps({"model": model, "added_tokens": None}))
    with pytest.raises(CheckpointError, match="id 1 is 'b' in the first and 'c' in the second"):
        check_tokenizers(folders[0], folders[1:])


def test_a_folder_without_any_tokenizer_makes_no_claim(golden: Path, make: Make) -> None:
    weights_only = make("weights", {"w": torch.ones(1)})
    check_tokenizers(golden, [weights_only])
    check_tokenizers(weights_only, [golden])


def test_sources_must_agree_even_when_the_base_has_no_tokenizer(golden: Path, make: Make) -> None:
    edit_tokenizer(golden, swap_two_words)
    with pytest.raises(CheckpointError, match="id 17"):
        check_tokenizers(make("weights", {"w": torch.ones(1)}), [MODELS / "a", golden])


def test_old_tokenizer_files_are_compared_byte_for_byte(make: Make) -> None:
    folders = [make(name, {"w": torch.ones(1)}) for name in ("one", "two", "three")]
    for folder, content in zip(folders, (b"x", b"x", b"y"), strict=True):
        (folder / "tokenizer.model").write_bytes(content)
    one, two, three = folders
    check_tokenizers(one, [two])
    with pytest.raises(CheckpointError, match=r"tokenizer\.model has other content"):
        check_tokenizers(one, [three])
    with pytest.raises(CheckpointError, match=r"only one has a tokenizer\.json \(save both again"):
        check_tokenizers(MODELS / "base", [one])


def test_a_damaged_tokenizer_is_refused(golden: Path) -> None:
    base = MODELS / "base"
    (golden / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(CheckpointError, match="is not a tokenizer that can be compared"):
        check_tokenizers(base, [golden])
    (golden / "tokenizer.json").write_text("not json")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is not JSON"):
        check_tokenizers(base, [golden])


def test_a_tokenizer_that_is_damaged_in_the_same_way_everywhere_is_refused(make: Make) -> None:
    folders = [make(name, {"w": torch.ones(1)}) for name in ("one", "two")]
    for folder in folders:
        (folder / "tokenizer.json").write_text("not json")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is not JSON"):
        check_tokenizers(folders[0], folders[1:])


def test_tokenizers_that_are_equal_to_the_byte_are_parsed_once(
    golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []

    def counted(path: Path) -> Any:
        parsed.append(path)
        return json.loads(path.read_text())

    monkeypatch.setattr("safemerge.io.tokens.read_json", counted)
    check_tokenizers(MODELS / "base", [golden, golden])
    vocabularies = [path for path in parsed if path.name == "tokenizer.json"]
    assert vocabularies == [MODELS / "base" / "tokenizer.json"]


START, END = "<|im_start|>", "<|im_end|>"
FORWARD, SWAPPED, SHIFTED = {START: 96, END: 97}, {END: 96, START: 97}, {START: 97, END: 98}


def add_tokens(folder: Path, ids: Mapping[str, int], file: str) -> Path:
    """Name added tokens as one of transformers' two files does."""
    if file == "added_tokens.json":
        (folder / file).write_text(json.dumps(ids))
    else:
        named = {str(index): {"content": token, "special": True} for token, index in ids.items()}
        (folder / file).write_text(json.dumps({"added_tokens_decoder": named}))
    return folder


@pytest.mark.parametrize("vocabulary", ["tokenizer.model", "vocab.json", "vocab.txt"])
@pytest.mark.parametrize(
    "files", list(product(("added_tokens.json", "tokenizer_config.json"), repeat=2))
)
def test_added_tokens_of_older_formats_must_have_the_same_ids(
    make: Make, vocabulary: str, files: tuple[str, str]
) -> None:
    one, two = (make(name, {"w": torch.ones(1)}) for name in ("one", "two"))
    for folder in (one, two):
        (folder / vocabulary).write_bytes(b"the same")
    add_tokens(one, FORWARD, files[0])
    check_tokenizers(one, [add_tokens(two, FORWARD, files[1])])
    for other, text in (
        (SWAPPED, f"id 96 is '<|im_start|>' in the first and '{END}' in the"),
        (SHIFTED, "id 97 is '<|im_end|>' in the first and '<|im_start|>'"),
        ({START: 200}, "token '<|im_start|>' has id 96 in the first and 200 in"),
    ):
        with pytest.raises(CheckpointError, match=re.escape(text)):
            check_tokenizers(one, [add_tokens(two, other, files[1])])


def test_what_only_one_of_two_older_tokenizers_names_may_be_in_the_vocabulary(make: Make) -> None:
    one, two = (make(name, {"w": torch.ones(1)}) for name in ("one", "two"))
    for folder in (one, two):
        (folder / "tokenizer.model").write_bytes(b"the same")
    add_tokens(one, {"<unk>": 0, "</s>": 2} | FORWARD, "tokenizer_config.json")
    check_tokenizers(one, [add_tokens(two, FORWARD, "added_tokens.json")])


@pytest.mark.parametrize("file", ["added_tokens.json", "tokenizer_config.json"])
def test_tokens_added_beside_a_tokenizer_json_are_compared(golden: Path, file: str) -> None:
    other = shutil.copytree(golden, golden.with_name("other"))
    for folder in (golden, other):
        (folder / "tokenizer_config.json").unlink(missing_ok=True)
    add_tokens(golden, {START: 900, END: 901}, file)
    check_tokenizers(golden, [add_tokens(other, {START: 900, END: 901}, file)])
    with pytest.raises(CheckpointError, match=r"id 900 is '<\|im_start\|>' in the first"):
        check_tokenizers(golden, [add_tokens(other, {END: 900, START: 901}, file)])


def test_a_tokenizer_json_decides_over_a_stale_file_of_added_tokens(golden: Path) -> None:
    tokens = {
        index: token
        for token, index in json.loads((golden / "tokenizer.json").read_text())["model"][
            "vocab"
        ].items()
    }
    other = shutil.copytree(golden, golden.with_name("other"))
    (other / "tokenizer_config.json").unlink(missing_ok=True)
    check_tokenizers(golden, [add_tokens(other, {tokens[5]: 6}, "added_tokens.json")])


@pytest.mark.parametrize("named", [[1], {"x": "y"}, {"96": {"special": True}}])
def test_added_tokens_that_cannot_be_read_are_refused(golden: Path, named: object) -> None:
    (golden / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": named}))
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json does not name its added"):
        check_tokenizers(MODELS / "base", [golden])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_nan_and_infinity_are_named_with_tensor_and_file(dtype: torch.dtype) -> None:
    tensor = torch.ones(4, 4, dtype=dtype)
    check_finite("w", tensor, "a/model.safetensors")
    tensor[0, 0], tensor[1, 1] = float("nan"), float("-inf")
    with pytest.raises(CheckpointError) as caught:
        check_finite("w", tensor, "a/model.safetensors")
    text = "tensor 'w' in a/model.safetensors holds 1 NaN and 1 infinite values of 16"
    assert text in str(caught.value)


def test_empty_and_integer_tensors_are_finite() -> None:
    check_finite("w", torch.empty(0), "f")
    check_finite("w", torch.tensor([2**62]), "f")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_only_values_that_are_infinite_count_and_not_their_sum(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    check_finite("w", torch.full((8,), largest, dtype=dtype), "f")
    infinities = torch.tensor([float("inf"), float("-inf"), 1.0], dtype=dtype)  # their sum is NaN
    with pytest.raises(CheckpointError, match="0 NaN and 2 infinite values of 3"):
        check_finite("w", infinities, "f")
