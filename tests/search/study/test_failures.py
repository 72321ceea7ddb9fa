"""A search in which things go wrong: failing and deadly trials, hopeless limits, a wrong clock."""

import datetime
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from optuna.storages import JournalStorage

from safemerge.errors import ConfigError, EngineError, RunError, SafemergeError
from safemerge.recipe import Recipe
from safemerge.score import Score
from search.cli import app as cli
from search.config import SearchConfig
from search.results.answers import TRIAL_FILES
from search.results.diagnostics import failed
from search.results.run import Run
from search.runs.rundir import RunDir
from search.runs.workbench import Workbench, Workbenches
from search.scoring.likelihood import Measurement
from search.study.study import run_search
from synth.judges import PhraseJudge

Scores = dict[str, Score]


def watched(monkeypatch: pytest.MonkeyPatch, before: Callable[[int, Recipe], None]) -> None:
    """Call `before(number of the call, recipe)` ahead of every scoring of a trial."""
    real, calls = Workbench.measure, iter(range(1000))

    def measure(self: Workbench, recipe: Recipe, *args: Any, **rest: Any) -> Measurement:
        before(next(calls), recipe)
        return real(self, recipe, *args, **rest)

    monkeypatch.setattr(Workbench, "measure", measure)


def overflowing(record: dict[str, Any], *, trials: int) -> dict[str, Any]:
    """One weight, which is 0 with probability 0.75 and else so large that the merge overflows."""
    models = record["models"] | {"sources": record["models"]["sources"][:1]}
    return record | {
        "models": models,
        "merge": {"method": "task_arithmetic"},
        "space": {
            "places": "global",
            "weight": [0.0, 3e38],
            "zero_prob": 0.75,
            "scale": [10.0, 10.0],
        },
        "search": record["search"] | {"trials": trials, "sampler": "random"},
    }


def test_a_search_with_a_third_of_its_trials_failing_completes_and_reports_them(
    record: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Real merges beyond the range; running out of memory and a dead engine are simulated."""

    def sometimes(call: int, recipe: Recipe) -> None:
        if call == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB")
        if call == 7:
            raise EngineError("the server at http://localhost went down")

    watched(monkeypatch, sometimes)
    file, home = tmp_path / "run.toml", tmp_path / "run"
    limits = {"honest": {"at_least": 0.9}}
    file.write_text(tomli_w.dumps(overflowing(record, trials=14) | {"limits": limits}))
    told = said(monkeypatch, capsys, "search", file, "--run", home)

    run = Run.load(home)
    failures = run.failures()
    assert len(run.candidates) == 14
    beyond = sum("cannot hold, such as" in reason for reason in failures.values())
    assert beyond >= 3
    assert len(failures) == beyond + 2
    assert 0.2 < len(failures) / (14 + len(failures)) < 0.5
    assert (
        f"{len(failures)} of {14 + len(failures)} trials failed: {beyond} with RecipeError" in told
    )
    assert "1 with OutOfMemoryError: CUDA out of memory.; " in told
    assert "1 with EngineError: the server at http://localhost went down. Each" in told
    assert "trials/NUMBER/error.txt" in told
    assert "none of 14 trials is within all limits; the nearest is trial" in told

    assert f"{len(failures)} of " in said(monkeypatch, capsys, "status", home)


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """What a command that is done says on stderr, as one line."""
    monkeypatch.setattr(sys, "argv", ["safemerge", *(str(arg) for arg in args)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    return " ".join(capsys.readouterr().err.split())


class Killed(BaseException):
    """Ends the process's work as a kill would: nothing that handles errors sees it."""


def deadly(monkeypatch: pytest.MonkeyPatch, end: type[BaseException]) -> list[int]:
    """The first recipe that is scored ends its process, then and always; numbers of the calls."""
    poison: list[Recipe] = []
    deaths: list[int] = []

    def before(call: int, recipe: Recipe) -> None:
        if not poison:
            poison.append(recipe)
        if recipe == poison[0] and len(deaths) < 6:
            deaths.append(call)
            raise end

    watched(monkeypatch, before)
    return deaths


def test_a_trial_that_kills_its_process_three_times_counts_as_failed(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = deadly(monkeypatch, Killed)
    for _ in range(3):
        with pytest.raises(Killed):
            run_search(config, tmp_path / "run")
    run = run_search(config, tmp_path / "run")
    assert len(deaths) == 3
    assert len(run.candidates) == 4
    (reason,) = run.failures().values()
    assert "its process was killed while it ran, 3 times" in reason
    assert str(failed(run)).startswith("1 of 5 trials failed: 1 with its process was killed")


def test_a_trial_that_was_stopped_by_its_user_never_counts_as_failed(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = deadly(monkeypatch, KeyboardInterrupt)
    for _ in range(6):
        with pytest.raises(KeyboardInterrupt):
            run_search(config, tmp_path / "run")
    run = run_search(config, tmp_path / "run")
    assert len(deaths) == 6
    assert len(run.candidates) == 4
    assert run.failures() == {}


def test_a_clock_that_runs_backwards_changes_nothing(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = SearchConfig.from_record(record | {"search": record["search"] | {"trials": 2}})
    config = SearchConfig.from_record(record)

    def both(home: Path) -> Run:
        run_search(short, home)
        return run_search(config, home)

    steady = both(tmp_path / "steady")
    real, readings = time.time(), iter(range(10**9))

    def earlier() -> float:
        return real - 3600.0 * next(readings)

    class Backwards(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Backwards":
            return cls.fromtimestamp(earlier(), tz)

    monkeypatch.setattr(sys.modules[JournalStorage.__module__], "datetime", Backwards)
    monkeypatch.setattr(time, "time", earlier)
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * earlier()))
    backwards = both(tmp_path / "backwards")
    assert backwards.candidates == steady.candidates
    assert backwards.pick().number == steady.pick().number
    stamps = [
        json.loads(line)["datetime_complete"]
        for line in backwards.dir.journal.read_text().splitlines()
        if "datetime_complete" in line
    ]
    assert len(stamps) == 4
    assert stamps == sorted(stamps, reverse=True)


@pytest.mark.parametrize(
    ("metric", "side", "bound"),
    [
        ("honest", "at_least", "best + 1.01"),
        ("honest", "at_least", "base + 1.0001"),
        ("over_refusal", "at_most", "base - 1.01"),
    ],
)
def test_a_limit_beyond_every_score_is_refused_before_anything_is_written(
    record: dict[str, Any], tmp_path: Path, metric: str, side: str, bound: str
) -> None:
    changed = record | {"limits": {metric: {side: bound}}}
    with pytest.raises(
        ConfigError, match=rf"limits.{metric} {side} = \"{bound[:4]}.*no recipe can"
    ):
        run_search(SearchConfig.from_record(changed), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_second_runner_is_told_who_holds_the_run_before_models_are_opened(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Workbenches, "open")
    held = RunDir(tmp_path / "run").locked()
    with held, pytest.raises(RunError, match=rf"by process {os.getpid()} on .*--workers N"):
        run_search(config, tmp_path / "run")


def test_a_search_that_is_over_without_a_finished_trial_says_why(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(call: int, recipe: Recipe) -> None:
        raise EngineError("the server at http://localhost went down")

    watched(monkeypatch, failing)
    search = record["search"] | {"trials": 9, "stop": {"hours": 1e-9}}
    with pytest.raises(
        SafemergeError, match=r"over \(trials have taken .* 1 of 1 trials failed: 1 with EngineErr"
    ):
        run_search(SearchConfig.from_record(record | {"search": search}), tmp_path / "run")


def test_trials_of_earlier_calls_do_not_hide_that_all_of_this_one_fail(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record["search"]["trials"] = 12
    run_search(SearchConfig.from_record(record), tmp_path / "run")
    calls: list[int] = []

    def failing(call: int, recipe: Recipe) -> None:
        calls.append(call)
        raise EngineError("went down")

    watched(monkeypatch, failing)
    record["search"]["trials"] = 40
    with pytest.raises(SafemergeError, match="10 of 10 trials failed"):
        run_search(SearchConfig.from_record(record), tmp_path / "run")
    assert len(calls) == 10


def test_a_judge_that_goes_down_while_answers_are_read_loses_no_trial(
    config: SearchConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A real judge is made to fail once a trial has answered, and until the search ends."""
    whole = run_search(config, tmp_path / "whole")
    real, answered = PhraseJudge.judge, tmp_path / "run" / TRIAL_FILES.format(0)

    def failing(self: PhraseJudge, prompts: Any, answers: Any) -> Any:
        if answered.exists():
            raise EngineError("the judge is down")
        return real(self, prompts, answers)

    with monkeypatch.context() as patched:
        patched.setattr(PhraseJudge, "judge", failing)
        with pytest.raises(EngineError, match="the judge is down"):
            run_search(config, tmp_path / "run")
    assert "trial 1 has answered no probes: the judge is down" in caplog.text
    monkeypatch.delattr(RunDir, "write_trial")  # no trial is scored again
    again = run_search(config, tmp_path / "run")
    assert [c.scores for c in again.candidates] == [c.scores for c in whole.candidates]
    assert again.pick().number == whole.pick().number


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_running_out_of_memory_before_the_trials_is_a_sentence(
    record: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    def out_of_memory(*args: object) -> None:
        raise error

    monkeypatch.setattr("search.study.study.measure_baseline", out_of_memory)
    file = tmp_path / "run.toml"
    file.write_text(tomli_w.dumps(record))
    monkeypatch.setattr(
        sys, "argv", ["safemerge", "search", str(file), "--run", str(tmp_path / "r")]
    )
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("safemerge: out of memory (")


def test_another_error_is_not_taken_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()
