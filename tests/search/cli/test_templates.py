"""What a user sees of chat templates: `safemerge eval` and a config's [models]."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import thinking_templates as templates
from tiny_llama import TEMPLATE, make_model, make_tokenizer
from typer.testing import CliRunner

from safemerge.errors import ConfigError, RunError
from search.cli.app import app
from search.config import SearchConfig
from search.runs.provenance import check_same
from search.runs.rundir import RunDir


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    make_model(vocab=len(make_tokenizer())).save_pretrained(folder)
    return folder


def evaluate(weights: Path, folder: Path, template: Any, *options: str) -> tuple[int, str]:
    """`safemerge eval` of a model with that chat template: exit code and what it says."""
    for file in weights.iterdir():
        (folder / file.name).hardlink_to(file)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    probe = {"axis": "domain", "category": "c", "prompt": "how do i ?", "answer": "take the lamp"}
    probes = folder / "probes.jsonl"
    probes.write_text(json.dumps(probe) + "\n")
    asked = [
        str(folder),
        "--probes",
        str(probes),
        "--judge",
        "phrases",
        "--max-tokens",
        "4",
        "--json",
    ]
    done = CliRunner().invoke(app, ["eval", *asked, *options])
    said = done.output if done.exception is None else f"{done.output}{done.exception}"
    return getattr(done.exception, "exit_code", done.exit_code), said


NAMED = {"tool_use": TEMPLATE, "rag": TEMPLATE}
PARTS = TEMPLATE.replace("m['content']", "m['content'][0]['text']")
LOST = TEMPLATE.replace("{{ m['content'] }}", "")


@pytest.mark.parametrize(
    ("template", "options", "code", "said"),
    [
        (NAMED, [], 2, "2 chat templates (rag, tool_use) and none is called default"),
        (NAMED, ["--template", "rag"], 0, '"domain"'),
        ({**NAMED, "default": TEMPLATE}, [], 0, '"domain"'),
        (NAMED, ["--template", "rga"], 2, "no chat template 'rga'"),
        (None, [], 2, "has no chat template"),
        (None, ["--template", "plain"], 0, '"domain"'),
        (None, ["--template", "alpaca"], 0, '"domain"'),
        (PARTS, [], 0, '"domain"'),
        (LOST, [], 2, "leaves out or changes the user's message"),
        (templates.R1, [], 2, 'set thinking = "empty"'),
        (templates.R1, ["--thinking", "empty"], 0, '"domain"'),
        (templates.R1, ["--thinking", "free", "--thinking-tokens", "8"], 0, '"domain"'),
        (templates.R1, ["--thinking", "no"], 2, "thinking is 'no'"),
        (templates.QWEN3, [], 0, '"domain"'),
    ],
)
def test_eval(
    weights: Path, tmp_path: Path, template: Any, options: list[str], code: int, said: str
) -> None:
    exit_code, output = evaluate(weights, tmp_path, template, *options)
    assert said in output
    assert exit_code == code


def test_a_config_says_how_its_models_are_talked_to(record: dict[str, Any], tmp_path: Path) -> None:
    record["models"] |= {"template": "chatml", "thinking": "free", "thinking_tokens": 77}
    config = SearchConfig.from_record(record, folder=tmp_path)
    chat = config.models.chat
    assert (chat.template, chat.thinking, chat.thinking_tokens) == ("chatml", "free", 77)
    assert SearchConfig.from_record(config.record()).models == config.models


@pytest.mark.parametrize(
    ("key", "value"), [("thinking", "on"), ("thinking_tokens", 0), ("template", "")]
)
def test_impossible_settings_are_refused(record: dict[str, Any], key: str, value: Any) -> None:
    record["models"][key] = value
    with pytest.raises(ConfigError, match=key):
        SearchConfig.from_record(record)


@pytest.mark.parametrize(
    ("key", "value"), [("thinking", "free"), ("thinking_tokens", 5), ("template", "plain")]
)
def test_a_run_does_not_go_on_with_other_settings(
    record: dict[str, Any], tmp_path: Path, key: str, value: Any
) -> None:
    import tomli_w

    home = RunDir(tmp_path)
    home.write_text("config.toml", tomli_w.dumps(SearchConfig.from_record(record).record()))
    check_same(home, SearchConfig.from_record(record))
    record["models"][key] = value
    with pytest.raises(RunError, match=f"models.{key} = "):
        check_same(home, SearchConfig.from_record(record))
