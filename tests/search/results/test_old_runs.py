"""A run folder that version 0.1.0 wrote, before the code was rearranged, still opens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from safemerge.inputs import open_inputs
from safemerge.recipe import Recipe
from search.results.export import export
from search.results.report import page
from search.results.run import Run
from synth.zoo import Zoo

OLD = Path(__file__).parents[2] / "data" / "runs" / "0.1.0"


@pytest.fixture
def old(tmp_path: Path, raw_zoo: Zoo) -> Path:
    """The run folder, its models those of this machine's small world."""
    home = shutil.copytree(OLD, tmp_path / "run")
    for file in (path for path in home.rglob("*") if path.is_file()):
        text = file.read_text(encoding="utf-8")
        here = text.replace("@ZOO@", str(raw_zoo.base.parent)).replace("@RUN@", str(home))
        file.write_text(here, encoding="utf-8")
    # The world is trained on every machine anew, and its weights differ in the last digits.
    lock = json.loads((home / "lock.json").read_text())
    lock["inputs"] = open_inputs(Run.load(home).pick().recipe).contents()
    (home / "lock.json").write_text(json.dumps(lock))
    return home


def test_its_front_and_pick_are_those_that_were_recorded(old: Path) -> None:
    run = Run.load(old)
    record = json.loads((OLD / "front" / "search.json").read_text())
    assert run.pick().number == record["pick"]
    front = [point["trial"] for point in record["points"] if point["on_front"]]
    assert [point.number for point in run.front().points] == front
    assert run.front().hypervolume() == pytest.approx(record["hypervolume"], abs=1e-12)
    violations = {point["trial"]: point["violation"] for point in record["points"]}
    for candidate in run.candidates:
        assert candidate.violation == pytest.approx(violations[candidate.number], abs=1e-12)


def test_its_heldout_record_is_read(old: Path) -> None:
    heldout = Run.load(old).heldout()
    assert heldout is not None
    record = json.loads((OLD / "front" / "heldout.json").read_text())
    assert list(heldout.rows) == list(record["rows"])
    assert heldout.rows["base"]["domain"].value == record["rows"]["base"]["domain"]["value"]


def test_its_report_names_its_pick(old: Path) -> None:
    run = Run.load(old)
    assert f"The pick is trial {run.pick().number}" in page(run)


def test_its_pick_is_exported(old: Path, tmp_path: Path) -> None:
    run = Run.load(old)
    export(run, run.pick().number, tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors")
    assert "| base |" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    "file", sorted(OLD.glob("trials/*/recipe.json")), ids=lambda f: f.parent.name
)
def test_its_recipes_keep_their_text_and_so_their_hash(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert Recipe.from_json(text, where=str(file)).canonical_json() == text.rstrip()
