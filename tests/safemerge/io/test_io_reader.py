"""What an opened checkpoint says and gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from safemerge.errors import CheckpointError
from safemerge.io import open_checkpoint

Make = Callable[..., Path]

GOLDENS = Path(__file__).parents[2] / "data" / "goldens"


def test_every_tensor_equals_what_safetensors_loads(golden: Path) -> None:
    checkpoint = open_checkpoint(golden)
    reference = load_file(golden / "model.safetensors")
    assert list(checkpoint.tensors) == sorted(reference)
    for name, tensor in reference.items():
        assert checkpoint.tensors[name].shape == tuple(tensor.shape)
        assert checkpoint.tensors[name].dtype == tensor.dtype
        assert torch.equal(checkpoint.load(name), tensor)


def test_every_type_scalar_and_empty_tensor_is_read_exactly(make: Make) -> None:
    torch.manual_seed(0)
    tensors = {
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "half": torch.randn(3, 5).half(),
        "bf": torch.randn(7).bfloat16(),
        "double": torch.randn(2, 2, 2, dtype=torch.float64),
        "position_ids": torch.arange(6).reshape(1, 6),
        "mask": torch.tensor([True, False, True]),
    }
    checkpoint = open_checkpoint(make("m", tensors))
    for name, tensor in tensors.items():
        assert torch.equal(checkpoint.load(name), tensor)
        assert checkpoint.load(name).dtype == tensor.dtype
    assert {name for name, info in checkpoint.tensors.items() if not info.is_float} == {
        "position_ids",
        "mask",
    }


def test_shards_give_the_same_tensors_and_the_same_hash(golden: Path, sharded: Path) -> None:
    whole, parts = open_checkpoint(golden), open_checkpoint(sharded)
    assert len({info.file for info in parts.tensors.values()}) == 4
    assert all(torch.equal(whole.load(name), parts.load(name)) for name in whole.tensors)
    assert whole.content_hash() == parts.content_hash()


def test_a_loaded_tensor_is_the_callers_own(golden: Path) -> None:
    checkpoint = open_checkpoint(golden)
    checkpoint.load("lm_head.weight").zero_()
    assert checkpoint.load("lm_head.weight").abs().max() > 0
    tensor = checkpoint.load("model.norm.weight")
    (golden / "model.safetensors").unlink()
    assert torch.isfinite(tensor).all()


def test_opening_and_loading_one_tensor_does_not_map_the_rest(make: Make) -> None:
    big = {f"w{i}": torch.ones(2**20) for i in range(16)}  # 64 MiB
    folder = make("big", big)
    checkpoint = open_checkpoint(folder)
    tensor = checkpoint.load("w3")
    assert tensor.untyped_storage().nbytes() == tensor.nbytes
    with open("/proc/self/maps") as maps:
        assert str(folder) not in maps.read()


@settings(max_examples=20)
@given(bit=st.integers(0, 32 * 3 - 1), data=st.data())
def test_hash_changes_with_any_single_bit_of_a_weight(
    bit: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("bits")
    weight = torch.tensor([1.0, -2.0, 0.5])
    name = data.draw(st.sampled_from(["a", "b"]))
    tensors = {"a": weight.clone(), "b": weight.clone()}
    (folder / "config.json").write_text("{}")
    save_file(tensors, folder / "model.safetensors")
    before = open_checkpoint(folder).content_hash()
    tensors[name].view(torch.uint8)[bit // 8] ^= 1 << (bit % 8)
    save_file(tensors, folder / "model.safetensors")
    assert open_checkpoint(folder).content_hash() != before


def test_hash_ignores_incidental_config_and_counts_architecture(make: Make) -> None:
    w = {"w": torch.ones(2, 3)}
    plain = open_checkpoint(make("a", w, rope_theta=1.0)).content_hash()
    labels = {"transformers_version": "9", "_name_or_path": "x", "dtype": "float32"}
    assert open_checkpoint(make("b", w, rope_theta=1.0, **labels)).content_hash() == plain
    assert open_checkpoint(make("c", w, rope_theta=2.0)).content_hash() != plain
    assert open_checkpoint(make("d", {"v": w["w"]}, rope_theta=1.0)).content_hash() != plain
    assert (
        open_checkpoint(make("e", {"w": torch.ones(3, 2)}, rope_theta=1.0)).content_hash() != plain
    )


def test_hash_reads_the_weights_only_once(golden: Path) -> None:
    checkpoint = open_checkpoint(golden)
    digest = checkpoint.content_hash()
    (golden / "model.safetensors").unlink()
    assert checkpoint.content_hash() == digest


def test_loading_in_any_order_is_hashing(golden: Path) -> None:
    digest = open_checkpoint(golden).content_hash()
    checkpoint = open_checkpoint(golden)
    for name in reversed(checkpoint.tensors):
        checkpoint.load(name).zero_()  # the caller may write into it
    (golden / "model.safetensors").unlink()
    assert checkpoint.content_hash() == digest


def test_a_tied_head_is_named_stored_or_not_and_leaves_the_hash_alone(make: Make) -> None:
    embed = torch.randn(4, 3)
    absent = {"model.embed_tokens.weight": embed}
    stored = {**absent, "lm_head.weight": embed.clone()}
    a = open_checkpoint(make("absent", absent, tie_word_embeddings=True))
    b = open_checkpoint(make("stored", stored, tie_word_embeddings=True))
    assert a.tied == b.tied == {"lm_head.weight"}
    assert a.content_hash() == b.content_hash()


def test_a_silent_config_is_tied_when_the_head_is_absent_or_equal(make: Make) -> None:
    embed = torch.randn(4, 3)
    absent = {"transformer.wte.weight": embed}
    assert open_checkpoint(make("a", absent)).tied == {"lm_head.weight"}
    same = {**absent, "lm_head.weight": embed.clone()}
    assert open_checkpoint(make("b", same)).tied == {"lm_head.weight"}
    own = {**absent, "lm_head.weight": embed + 1}
    assert open_checkpoint(make("c", own)).tied == frozenset()
    assert open_checkpoint(make("d", same, tie_word_embeddings=False)).tied == frozenset()


def test_a_head_that_contradicts_its_config_is_refused(make: Make) -> None:
    embed = torch.randn(4, 3)
    tensors = {"model.embed_tokens.weight": embed, "lm_head.weight": embed + 1}
    with pytest.raises(CheckpointError, match=r"says tie_word_embeddings, and lm_head\.weight"):
        open_checkpoint(make("m", tensors, tie_word_embeddings=True))


def test_a_tied_model_of_transformers_reads_as_tied(llama: Path) -> None:
    checkpoint = open_checkpoint(llama)
    assert checkpoint.tied == {"lm_head.weight"}
    assert checkpoint.load("model.embed_tokens.weight").dtype == torch.bfloat16


def test_an_unknown_tensor_is_answered_with_near_names(golden: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no tensor 'model.norm.wait'; did you mean"):
        open_checkpoint(golden).load("model.norm.wait")


def test_a_file_that_shrinks_after_opening_is_reported(golden: Path) -> None:
    checkpoint = open_checkpoint(golden)
    os.truncate(golden / "model.safetensors", 1000)
    with pytest.raises(CheckpointError, match=r"ended inside tensor .* it changed while it"):
        checkpoint.load("model.norm.weight")


def test_allowed_pickles_read_like_safetensors(golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    shutil.copy(golden / "config.json", folder)
    tensors = load_file(golden / "model.safetensors")
    torch.save(tensors, folder / "pytorch_model.bin")
    checkpoint = open_checkpoint(folder, allow_pickle=True)
    assert all(torch.equal(checkpoint.load(name), tensors[name]) for name in tensors)
    assert checkpoint.content_hash() == open_checkpoint(golden).content_hash()
    checkpoint.load("model.norm.weight").zero_()
    assert checkpoint.load("model.norm.weight").abs().max() > 0


def test_sharded_pickles_read_through_their_index(golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    shutil.copy(golden / "config.json", folder)
    tensors = load_file(golden / "model.safetensors")
    half = len(tensors) // 2
    index = {}
    for number, names in enumerate((list(tensors)[:half], list(tensors)[half:])):
        file = f"pytorch_model-{number}.bin"
        torch.save({name: tensors[name] for name in names}, folder / file)
        index |= dict.fromkeys(names, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    checkpoint = open_checkpoint(folder, allow_pickle=True)
    assert checkpoint.content_hash() == open_checkpoint(golden).content_hash()


def hub_cache(tmp_path: Path, golden: Path) -> tuple[Path, Path]:
    """A Hub cache that holds org/tiny, made of links as huggingface_hub makes it."""
    repository = tmp_path / "hub" / "models--org--tiny"
    revision = "a" * 40
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    for number, path in enumerate(sorted(golden.iterdir())):
        blob = repository / "blobs" / f"{number:040x}"
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    return tmp_path / "hub", snapshot


def offline(cache: Path, code: str) -> str:
    """Run Python with a Hub cache and no network; what it printed."""
    env = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_links_of_a_hub_snapshot_into_its_blobs_are_followed(golden: Path, tmp_path: Path) -> None:
    _, snapshot = hub_cache(tmp_path, golden)
    assert open_checkpoint(snapshot).content_hash() == open_checkpoint(golden).content_hash()


def test_a_hub_id_opens_from_the_cache(golden: Path, tmp_path: Path) -> None:
    cache, snapshot = hub_cache(tmp_path, golden)
    code = "from safemerge.io import open_checkpoint as o; c = o('org/tiny@main'); print(c.folder)"
    assert offline(cache, code) == str(snapshot)


def test_an_adapter_opens_from_the_cache_by_its_hub_id(golden: Path, tmp_path: Path) -> None:
    lora = shutil.copytree(GOLDENS / "lora" / "rslora", tmp_path / "lora")
    cache, snapshot = hub_cache(tmp_path, lora)
    code = (
        "from safemerge.inputs import open_inputs\n"
        "from safemerge.recipe import Recipe\n"
        f"recipe = Recipe(base={{'name': 'base', 'path': {str(golden)!r}}}, method='linear',\n"
        "  sources=[{'name': 'lora', 'path': 'org/tiny@main'}], weights={'default': {'lora': 1}})\n"
        "print(open_inputs(recipe).sources[0].stored.folder)"
    )
    assert offline(cache, code) == str(snapshot)


def test_a_failed_download_says_what_to_do(tmp_path: Path) -> None:
    code = (
        "from safemerge.io import open_checkpoint\n"
        "from safemerge.errors import CheckpointError\n"
        "try: open_checkpoint('org/absent')\n"
        "except CheckpointError as error: print(error)"
    )
    message = offline(tmp_path / "none", code)
    assert message.startswith("org/absent is not a folder here, and as a Hub id it could not be")
    assert "hf auth login" in message


def test_importing_io_loads_neither_transformers_nor_the_hub_nor_methods() -> None:
    code = (
        "import sys, safemerge.io\n"
        "heavy = ('transformers', 'huggingface_hub', 'datasets', 'optuna', 'safemerge.methods')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("entries", [1, 7, 10**6])
def test_pieces_are_the_tensor_and_hash_it(golden: Path, entries: int) -> None:
    digest = open_checkpoint(golden).content_hash()
    checkpoint = open_checkpoint(golden)
    for name, info in checkpoint.tensors.items():
        pieces = list(checkpoint.pieces(name, entries))
        assert all(len(piece) == entries for piece in pieces[:-1])
        whole = torch.cat(pieces).reshape(info.shape)
        assert torch.equal(whole, open_checkpoint(golden).load(name))
    (golden / "model.safetensors").unlink()
    assert checkpoint.content_hash() == digest


def test_a_tensor_without_entries_has_no_pieces_and_a_hash(make: Make) -> None:
    folder = make("model", {"none": torch.empty(0, 3), "w": torch.ones(2)})
    digest = open_checkpoint(folder).content_hash()
    checkpoint = open_checkpoint(folder)
    assert list(checkpoint.pieces("none", 4)) == []
    assert len(list(checkpoint.pieces("w", 4))) == 1
    (folder / "model.safetensors").unlink()
    assert checkpoint.content_hash() == digest
