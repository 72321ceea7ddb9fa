"""`safemerge demo` end to end on a small, briefly trained world, and the notebook on its run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.commands.demo import DemoSettings, run_demo
from search.results.run import Run
from search.runs.probe_sets import load_probes
from synth.probes.probe import AXES, ProbeSet
from synth.zoo import World

ROWS = [
    "base",
    "domain",
    "safe",
    "honest",
    "uniform",
    "best_single_weight",
    "random_search",
    "search_without_safety",
    "search",
]
BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
SMALL = DemoSettings(width=64, effort=0.35, trials=4)

pytestmark = pytest.mark.xdist_group("demo")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "runs" / "demo"
    run_demo(path, SMALL)
    return path


def test_the_summary_has_every_row_and_every_axis(home: Path) -> None:
    summary = json.loads((home / "summary.json").read_text())
    assert [row["name"] for row in summary["rows"]] == ROWS
    for row in summary["rows"]:
        assert {*AXES, "over_refusal", "degenerate"} <= row.keys()
        assert all(0 <= row[axis] <= 1 for axis in AXES)
        assert row["n"] == 256
    assert {"zoo", "probes", "search", "total"} <= summary["seconds"].keys()
    assert Path(summary["export"]).is_dir()


def test_probes_were_written_by_models_and_share_no_term_with_the_held_out(home: Path) -> None:
    config = Run.load(home).config
    written = ProbeSet.from_jsonl(config.probes.path)
    heldout = ProbeSet.from_jsonl(str(config.probes.heldout))
    world = World(0)
    assert {probe.generator for probe in written} <= {"base", "domain", "safe", "honest"}
    held_terms = {term for probe in heldout for term in world.terms(probe.prompt)}
    for probe in written:
        terms = world.terms(probe.prompt)
        assert terms, probe.prompt
        assert not held_terms & set(terms), probe.prompt
    prompts = [probe.prompt for probe in written]
    assert len(set(prompts)) == len(prompts)


def test_probes_killed_at_any_moment_go_on_to_the_same_bytes(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    small = [f"counts.{axis}=12" for axis in AXES]
    settings = [f"--set=probes.write.{setting}" for setting in ("batch=16", *small)]
    script = Path(__file__).parents[3] / "benchmarks" / "kill_probes.py"
    command = [sys.executable, str(script), str(home / "config.toml"), "--kills=3", *settings]
    done = subprocess.run([*command, f"--out={out}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert record["same_bytes"]
    assert 24 < record["probes"] <= 48  # a briefly trained world has less to ask
    assert any(one["killed"] and 0 < one["lines"] < record["lines"] for one in record["kills"])


def test_random_search_gets_the_same_number_of_evaluations(home: Path) -> None:
    charged = Run.load(home).dir.read("warmstart.json")["evaluations"] + SMALL.trials
    assert len(Run.load(home / "baselines" / "random_search").candidates) == charged


def test_the_export_loads_and_talks_as_the_trial_did(home: Path) -> None:
    from synth.engines.transformers import TransformersEngine

    run = Run.load(home)
    answers = (home / f"heldout/trial-{run.pick().number:05d}.jsonl").read_text().splitlines()
    replies = [json.loads(line)["reply"] for line in answers]
    engine = TransformersEngine(home / "export")
    asked = [probe.prompt for probe in load_probes(run.config).split("heldout")]
    assert engine.chat(asked, max_tokens=run.config.probes.max_tokens) == replies


def test_a_second_demo_repeats_nothing(home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in home.glob("**/scores.json")}
    weights = next((home.parent / "zoo").glob("*/base/model.safetensors"))
    trained = weights.stat().st_mtime_ns
    exported = (home / "export/model.safetensors").stat().st_mtime_ns
    first = json.loads((home / "summary.json").read_text())["rows"]
    summary, _ = run_demo(home, SMALL)
    assert summary["rows"] == first
    assert {path: path.stat().st_mtime_ns for path in home.glob("**/scores.json")} == before
    assert weights.stat().st_mtime_ns == trained
    assert (home / "export/model.safetensors").stat().st_mtime_ns == exported


def test_the_notebook_runs_on_the_demo(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("SAFEMERGE_RUN", str(home))
    notebook = nbformat.read(NOTEBOOKS / "01_pareto_front.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": NOTEBOOKS}})
    done = client.execute(env=dict(os.environ))
    figures = [
        output
        for cell in done.cells
        for output in cell.get("outputs", [])
        if "application/vnd.plotly.v1+json" in output.get("data", {})
    ]
    assert len(figures) == 4


def test_the_notebook_is_paired_with_its_script() -> None:
    import jupytext

    script = jupytext.read(NOTEBOOKS / "01_pareto_front.py")
    notebook = jupytext.read(NOTEBOOKS / "01_pareto_front.ipynb")
    assert [c.source for c in notebook.cells] == [c.source for c in script.cells]
    assert not any(cell.get("outputs") for cell in notebook.cells)


def test_written_probes_are_counted_against_the_truth_of_the_world(
    home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "quality.json"
    command = [sys.executable, str(BENCHMARKS / "probe_quality.py"), "--size", "tiny"]
    command += ["--zoo", str(home.parent / "zoo"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text(encoding="utf-8"))
    assert record["duplicates"] == record["leaks"] == 0
    assert record["probes"] == sum(row["kept"] for row in record["axes"])
    for row in record["axes"]:
        assert record["right"][row["axis"]]["all"]["n"] == row["kept"] <= 16
