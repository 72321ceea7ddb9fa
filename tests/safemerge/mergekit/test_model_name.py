"""How a merge file names its models: what is on the disk decides, and the nested form says it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from safemerge import Recipe
from safemerge.errors import RecipeError
from safemerge.inputs import open_inputs
from safemerge.mergekit import from_mergekit, title_of, to_mergekit
from search.cli.standalone import merge

GOLDENS = Path(__file__).parents[2] / "data" / "goldens"
BASE, SOURCE = (GOLDENS / "fp32" / "models" / name for name in ("base", "a"))


def read(folder: Path, base: object, *models: object, **more: object) -> Recipe:
    record = {
        "merge_method": "task_arithmetic",
        "base_model": base,
        "models": [{"model": model, "parameters": {"weight": 0.5}} for model in models],
    }
    (folder / "m.yml").write_text(json.dumps(record | more))  # JSON is YAML
    return from_mergekit(folder / "m.yml")


def folders(parent: Path, *names: str) -> None:
    for name in names:
        (parent / name).mkdir(parents=True)


@pytest.mark.parametrize(
    ("there", "text", "path"),
    [
        (["llama+chat"], "llama+chat", "llama+chat"),
        (["a+b+c"], "a+b+c", "a+b+c"),
        (["base", "lora", "base+lora"], "base+lora", "base+lora"),
        (["base", "lora"], "base+lora", "lora"),
        (["x+y", "base"], "base+x+y", "x+y"),
        ([], "base+org/lora", "org/lora"),
        ([], "base+lora@main", "lora@main"),
    ],
)
def test_what_is_on_the_disk_decides_what_a_plus_means(
    tmp_path: Path, there: list[str], text: str, path: str
) -> None:
    folders(tmp_path, *there)
    (source,) = read(tmp_path, "base", text).sources
    assert source.path == (str(tmp_path / path) if path in there else path)


def test_a_base_with_a_plus_is_a_folder_or_has_an_adapter(tmp_path: Path) -> None:
    for base in ("llama+chat", {"model": "llama+chat"}, {"path": "llama+chat"}):
        if isinstance(base, str):
            tuned = read(tmp_path, base, "a").base
            assert (tuned.path, tuned.adapter) == ("llama", "chat")
            folders(tmp_path, base)
        assert read(tmp_path, base, "a").base.path == str(tmp_path / "llama+chat")


@pytest.mark.parametrize("text", ["a+b+c", "+a", "a+", "+", "a++b"])
def test_a_plus_that_divides_nothing_is_refused_with_the_way_out(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        RecipeError, match=r"folder with a \+ in its name, which is not there, write"
    ):
        read(tmp_path, "base", text)


@pytest.mark.parametrize(
    ("nested", "path"),
    [
        ({"path": "a+b"}, "a+b"),
        ({"model": "a+b"}, "a+b"),
        ({"model": {"path": "a+b"}}, "a+b"),
        ({"model": {"path": "org/a", "revision": "main"}}, "org/a@main"),
        ({"model": {"path": "a", "revision": None}, "lora": None}, "a"),
        ({"model": {"path": "base"}, "lora": {"path": "x+y"}}, "x+y"),
        ({"model": "base", "lora": "x"}, "x"),
    ],
)
def test_the_nested_form_says_what_it_means(tmp_path: Path, nested: object, path: str) -> None:
    assert read(tmp_path, {"model": {"path": "base"}}, nested).sources[0].path == path


@pytest.mark.parametrize(
    ("nested", "message"),
    [
        ({}, r"models\[0\]\.model\.model is None; give a path, or \{path"),
        ({"model": {"path": ""}}, r"model\.path is ''; give a text"),
        ({"model": {"path": "a", "revision": 3}}, r"model\.revision is 3; give a text"),
        ({"model": {"paht": "a"}}, "has the unknown key 'paht'; did you mean path"),
        ({"model": "a", "loras": "b"}, "has the unknown key 'loras'; did you mean lora"),
        ({"model": "a", "override_architecture": "B"}, "override_architecture, which cannot be"),
    ],
)
def test_a_nested_form_that_names_no_model_is_refused(
    tmp_path: Path, nested: object, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        read(tmp_path, "base", nested)


def test_slices_name_models_in_the_nested_form_too(tmp_path: Path) -> None:
    sources = [
        {"model": {"model": {"path": str(SOURCE)}}, "layer_range": [0, 2]},
        {"model": str(BASE), "layer_range": [0, 2]},
    ]
    record = {
        "merge_method": "linear",
        "slices": [{"sources": sources}],
        "parameters": {"weight": 0.5},
    }
    (tmp_path / "m.yml").write_text(json.dumps(record))
    assert from_mergekit(tmp_path / "m.yml").sources[0].path == str(SOURCE)


@pytest.mark.parametrize(("base", "source"), [("b+1", "a"), ("b", "a+1"), ("b+1", "a+1")])
def test_a_recipe_with_a_plus_is_written_and_read_back(
    tmp_path: Path, base: str, source: str
) -> None:
    for origin, name in ((BASE, base), (SOURCE, source)):
        shutil.copytree(origin, tmp_path / name)
    recipe = read(tmp_path, {"path": base}, {"path": source})
    (tmp_path / "again.yml").write_text(to_mergekit(recipe, open_inputs(recipe)))
    again = from_mergekit(tmp_path / "again.yml")
    assert (again.base.path, again.sources[0].path) == (recipe.base.path, recipe.sources[0].path)


def test_an_adapter_with_a_plus_in_its_name_is_read_back(tmp_path: Path) -> None:
    shutil.copytree(GOLDENS / "lora" / "rslora", tmp_path / "x+y")
    recipe = read(tmp_path, str(BASE), {"model": {"path": str(BASE)}, "lora": {"path": "x+y"}})
    text = to_mergekit(recipe, open_inputs(recipe))
    assert "lora:" in text
    (tmp_path / "again.yml").write_text(text)
    assert from_mergekit(tmp_path / "again.yml").sources[0].path == str(tmp_path / "x+y")


@pytest.mark.parametrize(
    ("name", "title"),
    [("clinic-7b", "clinic-7b"), ("Two words: a #1", "Two words: a \\#1"), (7, "7")],
)
def test_the_name_of_a_merge_file_is_the_cards_title(
    tmp_path: Path, name: object, title: str
) -> None:
    read(tmp_path, str(BASE), str(SOURCE), name=name)
    assert title_of(tmp_path / "m.yml") == str(name)
    merge(tmp_path / "m.yml", tmp_path / "out")
    assert f"\n# {title}\n" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("name", [True, [], {"a": 1}, ""])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: object) -> None:
    with pytest.raises(RecipeError, match=r"name is .*; give what the merged model is called"):
        read(tmp_path, "base", "a", name=name)


def test_without_a_name_the_card_has_the_folders(tmp_path: Path) -> None:
    read(tmp_path, str(BASE), str(SOURCE), name=None)
    merge(tmp_path / "m.yml", tmp_path / "out")
    assert "\n# out\n" in (tmp_path / "out" / "README.md").read_text()
