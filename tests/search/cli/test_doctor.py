"""`safemerge doctor`, and the first lines of `search`, as a user meets them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w


def command(*args: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "search.cli.app", *map(str, args)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.fixture
def toml(record: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(tomli_w.dumps(record))
    return path


def test_doctor_tells_in_tables_what_is_there_and_what_it_takes(toml: Path, tmp_path: Path) -> None:
    done = command("doctor", toml, "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    for part in ("LlamaForCausalLM", "template works", "needs no model", "4 trials of"):
        assert part in done.stdout
    assert "peak of the host" in done.stdout
    assert "all is well" in done.stderr
    assert not (tmp_path / "run").exists()


def test_doctor_ends_with_exit_two_and_a_sentence_for_each_fault(
    record: dict[str, Any], toml: Path
) -> None:
    record["probes"]["path"] = "nowhere.jsonl"
    record["models"]["sources"][0]["path"] = "/gone"
    toml.write_text(tomli_w.dumps(record))
    done = command("doctor", toml, "--json")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    told = json.loads(done.stdout)
    assert len(told["problems"]) == 2
    for problem in told["problems"]:
        assert " ".join(problem.split()) in " ".join(done.stderr.split())
    assert told["seconds"] is None


def test_a_search_begins_with_what_it_will_take(toml: Path, tmp_path: Path) -> None:
    home = tmp_path / "run"
    done = command("search", toml, "--run", home)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "about" in line]
    assert [line.split()[0] for line in lines[:3]] == ["time", "memory", "disk"]
    assert " a trial)" in lines[0]
    again = command("search", toml, "--run", home, "--trials", 5)
    assert again.returncode == 0, again.stderr
    assert "time    about" not in again.stderr
