"""Several workers on one study: exact counts, kills of anybody at any time, Ctrl-C."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import tomli_w

from search.config import SearchConfig
from search.metrics import ReferenceScores
from search.runs.rundir import RunDir
from search.study.context import StudyContext
from search.study.storage import open_study
from search.study.study import run_search
from search.study.trials import ask


def states(home: Path, config: SearchConfig) -> list[str]:
    """States of all trials, in order."""
    study = open_study(RunDir(home), config)
    return [trial.state.name for trial in study.get_trials(deepcopy=False)]


def wait_until(done: Callable[[], object], child: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 300
    while not done():
        assert child.poll() is None, "the search ended by itself"
        assert time.monotonic() < deadline, "the search makes no progress"
        time.sleep(0.01)


def finished(home: Path) -> set[Path]:
    return set(home.glob("trials/*/scores.json"))


def workers_of(parent: int) -> list[int]:
    """Process ids of the workers that are alive."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [
        int(pid)
        for pid in found
        if b"search.study.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@contextmanager
def searching(config: SearchConfig, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The search as a user starts it."""
    file = home.with_suffix(".toml")
    file.write_text(tomli_w.dumps(config.record()))
    command = [sys.executable, "-m", "search.cli.app", "search", str(file), "--run", str(home)]
    with subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.DEVNULL) as child:
        try:
            yield child
        finally:
            child.kill()


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="finds processes in /proc"
)


def test_killed_workers_are_replaced_and_a_killed_search_goes_on(
    record: dict[str, Any], tmp_path: Path
) -> None:
    home = tmp_path / "run"
    record["search"] = record["search"] | {"trials": 2000, "sampler": "random"}
    config = SearchConfig.from_record(record)
    with searching(config, home) as child:
        wait_until(lambda: len(finished(home)) >= 2, child)
        before = workers_of(child.pid)
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: len(set(workers_of(child.pid)) - set(before)) == 1, child)
        known = finished(home)
        wait_until(lambda: len(finished(home)) > len(known) + 2, child)
        child.kill()
    contents = {path: path.read_bytes() for path in finished(home)}
    assert known < contents.keys()

    # The same run goes on, with a budget that is just beyond what there is.
    budget = len(contents) + 3
    less = record | {"search": record["search"] | {"trials": budget, "workers": 2}}
    run = run_search(SearchConfig.from_record(less), home)
    assert all(path.read_bytes() == content for path, content in contents.items())
    found = states(home, config)
    assert len(run.candidates) == found.count("COMPLETE") == budget
    assert run.dir.read("front/search.json")["stopped"] == f"{budget} trials are complete"
    assert "RUNNING" not in found
    recipes = {candidate.recipe.canonical_json() for candidate in run.candidates}
    assert len(recipes) == budget


def test_ctrl_c_ends_all_workers_and_leaves_nothing_running(
    record: dict[str, Any], tmp_path: Path
) -> None:
    home = tmp_path / "run"
    record["space"] = {"places": "global"}  # few numbers: a database waits for the disk at each
    record["search"] = record["search"] | {"trials": 2000, "sampler": "random", "workers": 2}
    record["search"]["storage"] = f"sqlite:///{tmp_path}/study.db"
    config = SearchConfig.from_record(record)
    team: list[int] = []

    def press_when_two_are_finished() -> None:
        while len(finished(home)) < 2:
            time.sleep(0.01)
        team.extend(workers_of(os.getpid()))
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=press_when_two_are_finished, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            run_search(config, home)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(team) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in team)
    found = states(home, config)
    assert "RUNNING" not in found
    assert found.count("COMPLETE") == len(finished(home))
    assert all(not path.read_text() for path in home.glob("logs/*.log"))


def test_a_trial_beyond_the_budget_is_never_asked_for(config: SearchConfig, tmp_path: Path) -> None:
    home = RunDir(tmp_path)
    home.write("lock.json", {"study": "search"})
    study = open_study(home, config)
    context = StudyContext.of(home, study, config, ReferenceScores({}, {}))
    asked = [ask(context, worker) for worker in range(6)]
    assert [trial is not None for trial in asked] == [True] * 4 + [False] * 2
    study.tell(asked[0], state=optuna.trial.TrialState.FAIL)
    assert ask(context, 7) is not None


def test_workers_draw_apart(config: SearchConfig, tmp_path: Path) -> None:
    home = RunDir(tmp_path)
    home.write("lock.json", {"study": "search"})
    drawn = [
        open_study(home, config, worker=worker).ask().suggest_float("x", 0.0, 1.0)
        for worker in range(3)
    ]
    assert len(set(drawn)) == 3


def test_a_worker_that_only_scores_opens_no_judge(config: SearchConfig, tmp_path: Path) -> None:
    run_search(config, tmp_path / "run")
    probes = config.probes.model_copy(update={"judge": "wildguard=gone"})
    record = config.model_copy(update={"probes": probes}).record()
    (tmp_path / "run" / "config.toml").write_text(tomli_w.dumps(record))
    worker = [sys.executable, "-m", "search.study.worker"]
    command = [*worker, str(tmp_path / "run"), "cpu", "0", "0", "scores"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        assert child.stderr.read() == b""
    assert child.returncode == 0
