"""lm-eval on a task file of our own, where it is installed; what is asked of it, everywhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny_llama import make_model, make_tokenizer

from safemerge import ModelRef, Recipe, merge
from safemerge.errors import BadInput, MissingDependency
from search.commands.measure_tasks import measure_tasks
from search.scoring.lm_eval_tasks import check_lm_eval, parse_groups, score_tasks

TASK = """\
task: lamps
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["red", "blue"]
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""
ANSWERS = ["red", "blue", "red", "red"]


@pytest.fixture
def task_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    data, folder = tmp_path / "lamps.jsonl", tmp_path / "tasks"
    rows = [{"question": f"do i take the {a} lamp ?", "answer": a} for a in ANSWERS]
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    folder.mkdir()
    (folder / "lamps.yaml").write_text(TASK.format(data=data), encoding="utf-8")
    return folder


def save(folder: Path, seed: int) -> Path:
    make_model(seed).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def by_hand(model: Any, tokenizer: Any) -> float:
    """Which of the two words is likelier after the chat prompt, token by token."""
    import torch

    right = 0
    for answer in ANSWERS:
        asked = [{"role": "user", "content": f"do i take the {answer} lamp ?"}]
        prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.inference_mode():
            logits = model(ids).logits[0, -1]
        words = [tokenizer.convert_tokens_to_ids(word) for word in ("red", "blue")]
        right += ("red", "blue")[int(logits[words].argmax())] == answer
    return right / len(ANSWERS)


def test_a_local_task_is_asked_with_the_chat_template(task_folder: Path) -> None:
    model, tokenizer = make_model(1), make_tokenizer()
    (score,) = score_tasks(model, tokenizer, {"domain": ("lamps",)}, include=task_folder)
    assert (score.group, score.task, score.metric, score.n) == ("domain", "lamps", "acc,none", 4)
    assert score.value == pytest.approx(by_hand(model.eval(), tokenizer))
    assert score.stderr is not None
    (two,) = score_tasks(model, tokenizer, {"domain": ("lamps",)}, include=task_folder, limit=2)
    assert two.n == 2


def test_a_recipe_scores_as_the_checkpoint_that_it_writes(
    task_folder: Path, tmp_path: Path
) -> None:
    refs = [ModelRef(name=n, path=str(save(tmp_path / n, i))) for i, n in enumerate("xab")]
    recipe = Recipe(
        base=refs[0],
        sources=tuple(refs[1:]),
        method="task_arithmetic+svc",
        weights={"default": {"a": 0.7, "b": 0.6}},
    )
    recipe.save(tmp_path / "recipe.json")
    merge(recipe, tmp_path / "out")
    asked = ["domain=lamps"]
    live = measure_tasks(str(tmp_path / "recipe.json"), asked, include=task_folder)
    assert live == measure_tasks(str(tmp_path / "out"), asked, include=task_folder)


def test_what_lm_eval_cannot_run_is_one_sentence(task_folder: Path, tmp_path: Path) -> None:
    model, tokenizer = make_model(1), make_tokenizer()
    with pytest.raises(BadInput, match="no task 'lamp'; did you mean lamps"):
        score_tasks(model, tokenizer, {"domain": ("lamp",)}, include=task_folder)
    with pytest.raises(BadInput, match="is no folder; name one that holds task files"):
        score_tasks(model, tokenizer, {"domain": ("lamps",)}, include=tmp_path / "none")
    (tmp_path / "lamps.jsonl").unlink()
    with pytest.raises(BadInput, match="lm-eval cannot run lamps: "):
        score_tasks(model, tokenizer, {"domain": ("lamps",)}, include=task_folder)
    tokenizer.chat_template = None
    with pytest.raises(BadInput, match="no chat template, and tasks are asked with one"):
        score_tasks(model, tokenizer, {"domain": ("lamps",)}, include=task_folder)


@pytest.mark.parametrize("have", ["0.3.0", "0.4.8", "0.5.0", "1.0", "unknown"])
def test_a_version_that_does_not_fit_is_named_with_the_one_that_does(
    have: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a package that is really found, with that number in its metadata."""
    info = tmp_path / "lm_eval-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: lm_eval\nVersion: {have}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "lm_eval", ModuleType("lm_eval"))
    with pytest.raises(MissingDependency, match=f"needs lm-eval 0.4.9 or a later 0.4, and {have}"):
        check_lm_eval()


def test_groups_have_tasks_of_their_own_or_those_that_are_named() -> None:
    asked = ["knowledge", "domain=medmcqa, pubmedqa", "domain=medmcqa,medqa_4options"]
    assert parse_groups(asked) == {
        "knowledge": ("mmlu", "arc_challenge"),
        "domain": ("medmcqa", "pubmedqa", "medqa_4options"),
    }


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("knowlege", "no group of tasks 'knowlege'; did you mean knowledge"),
        ("domain", "the group 'domain' has no tasks of its own; name some: domain=TASK,TASK"),
    ],
)
def test_a_group_that_cannot_be_asked_is_refused(asked: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_groups([asked])
