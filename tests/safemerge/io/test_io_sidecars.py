"""What comes along with the weights, and what must not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from safemerge.errors import CheckpointError
from safemerge.io import copy_sidecars, open_checkpoint


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_everything_but_the_config_is_copied_byte_for_byte(golden: Path, out: Path) -> None:
    (golden / "chat_template.jinja").write_text("{{ messages }}")
    (golden / "additional_chat_templates").mkdir()
    (golden / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    names = copy_sidecars(open_checkpoint(golden), out)
    assert names == [
        "additional_chat_templates/tools.jinja",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for name in names:
        assert (out / name).read_bytes() == (golden / name).read_bytes()


def test_a_tokenizer_with_its_template_loads_from_the_copy(golden: Path, out: Path) -> None:
    from transformers import AutoTokenizer

    (golden / "chat_template.jinja").write_text("{{ messages[0].content }}")
    copy_sidecars(open_checkpoint(golden), out)
    ours, theirs = AutoTokenizer.from_pretrained(out), AutoTokenizer.from_pretrained(golden)
    assert ours("w5 w7").input_ids == theirs("w5 w7").input_ids
    chat = [{"role": "user", "content": "w9"}]
    assert ours.apply_chat_template(chat, tokenize=False) == "w9"


def test_code_weights_and_strange_files_stay_behind(golden: Path, out: Path) -> None:
    for name in ("modeling_tiny.py", "pytorch_model.bin", ".env", "optimizer.pt", "notes.json"):
        (golden / name).write_text("x")
    copy_sidecars(open_checkpoint(golden), out)
    assert not {p.suffix for p in out.iterdir()} & {".py", ".bin", ".pt", ".safetensors"}
    assert not (out / ".env").exists()
    assert not (out / "notes.json").exists()


def test_remote_code_entries_are_dropped(golden: Path, out: Path) -> None:
    remote = {"AutoModelForCausalLM": "someone/repo--modeling_tiny.Tiny"}
    edit(golden / "config.json", auto_map=remote)
    edit(golden / "tokenizer_config.json", auto_map=remote)
    before = open_checkpoint(golden).config
    copy_sidecars(open_checkpoint(golden), out)
    config = json.loads((out / "config.json").read_text())
    assert config == {key: value for key, value in before.items() if key != "auto_map"}
    assert "auto_map" not in json.loads((out / "tokenizer_config.json").read_text())


def test_the_config_states_the_dtype_that_was_written(golden: Path, out: Path) -> None:
    edit(golden / "config.json", torch_dtype="float32")
    copy_sidecars(open_checkpoint(golden), out, dtype="bfloat16")
    config = json.loads((out / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert "torch_dtype" not in config
    assert config["hidden_size"] == 32


def test_a_sidecar_that_links_out_of_its_folder_is_refused(
    golden: Path, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "private").write_text("secret")
    (golden / "tokenizer.model").symlink_to(tmp_path / "private")
    with pytest.raises(CheckpointError, match=r"tokenizer\.model is a link to .*private, outside"):
        copy_sidecars(open_checkpoint(golden), out)


def test_a_damaged_sidecar_is_named(golden: Path, out: Path) -> None:
    (golden / "generation_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"generation_config\.json is not JSON"):
        copy_sidecars(open_checkpoint(golden), out)


def test_copies_can_be_written_even_if_the_source_is_read_only(golden: Path, out: Path) -> None:
    (golden / "tokenizer.json").chmod(0o444)
    copy_sidecars(open_checkpoint(golden), out)
    assert os.stat(out / "tokenizer.json").st_mode & 0o200
