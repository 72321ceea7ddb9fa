"""run_search: budget, resuming, kills, refusals. Real models and probes, a real journal."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
import tomli_w
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from safemerge.errors import ConfigError, ProbeError, RunError, SafemergeError
from safemerge.recipe import Recipe
from safemerge.score import Score, Scores
from search.commands.search_and_measure import search_and_measure
from search.config import SearchConfig
from search.metrics import RETENTION
from search.results.run import Run
from search.runs.workbench import Workbench
from search.scoring.likelihood import LikelihoodEvaluator, Measurement
from search.study.interrupts import interruptible, uninterrupted
from search.study.journal import Journal
from search.study.study import run_search
from synth.judges import PhraseJudge
from synth.probes.probe import ProbeSet


def states(home: Path) -> list[str]:
    """States of all trials in the journal, in order."""
    storage = JournalStorage(JournalFileBackend(str(home / "study.journal")))
    study = optuna.load_study(study_name="search", storage=storage)
    return [trial.state.name for trial in study.get_trials(deepcopy=False)]


def with_search(record: dict[str, Any], **changes: Any) -> SearchConfig:
    return SearchConfig.from_record(record | {"search": record["search"] | changes})


def test_a_search_records_everything(config: SearchConfig, tmp_path: Path) -> None:
    run = run_search(config, tmp_path / "run")
    assert [c.number for c in run.candidates] == [0, 1, 2, 3]
    assert states(run.dir.path) == ["COMPLETE"] * 4
    for name in ("config.toml", "lock.json", "baseline.json", "front/search.json"):
        assert (run.dir.path / name).exists()
    assert run.dir.read("lock.json")["judge"] == PhraseJudge().fingerprint()
    assert not list(run.dir.path.glob("**/*.safetensors"))
    assert run.pick() in run.reported_points()
    axes = {"domain", "harmless", "helpful", "honest"}
    assert run.baseline.base.keys() == axes | {"over_refusal", "degenerate", *RETENTION}


def test_the_same_seed_finds_the_same_recipes(config: SearchConfig, tmp_path: Path) -> None:
    one, other = (run_search(config, tmp_path / name) for name in ("one", "other"))
    assert [c.recipe for c in one.candidates] == [c.recipe for c in other.candidates]
    assert [c.scores for c in one.candidates] == [c.scores for c in other.candidates]


def test_the_same_command_goes_on_and_the_budget_may_be_raised(
    record: dict[str, Any], tmp_path: Path
) -> None:
    first = run_search(with_search(record, trials=2), tmp_path / "run")
    again = run_search(with_search(record, trials=2), tmp_path / "run")
    assert again.candidates == first.candidates
    more = run_search(with_search(record, trials=5), tmp_path / "run")
    # Their estimated rates may differ, since more trials have answered.
    found, before = ([(c.recipe, c.scores) for c in r.candidates] for r in (more, first))
    assert found[:2] == before
    assert len(more.candidates) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 4}, "started with seed = 3, and now it is 4"),
        ({"space": {"places": "global"}}, "started with space.places = 'layers'"),
        ({"search": {"trials": 2, "sampler": "random"}}, "search.sampler"),
    ],
)
def test_a_changed_config_is_refused_with_what_differs(
    record: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    short = with_search(record, trials=1)
    run_search(short, tmp_path / "run")
    with pytest.raises(RunError, match=message):
        run_search(SearchConfig.from_record(record | changes), tmp_path / "run")


def test_changed_probes_are_refused(record: dict[str, Any], tmp_path: Path) -> None:
    own = tmp_path / "probes.jsonl"
    lines = Path(record["probes"]["path"]).read_text().splitlines()
    own.write_text("\n".join(lines) + "\n")
    changed = record | {"probes": record["probes"] | {"path": str(own)}}
    run_search(with_search(changed, trials=1), tmp_path / "run")
    own.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(RunError, match="other content of the probes"):
        run_search(with_search(changed, trials=1), tmp_path / "run")


def test_probes_in_another_order_are_the_same_search(
    record: dict[str, Any], tmp_path: Path
) -> None:
    own = tmp_path / "probes.jsonl"
    lines = Path(record["probes"]["path"]).read_text().splitlines()
    record["probes"] = record["probes"] | {"path": str(own)}
    record["search"] = record["search"] | {"warm_start": {"steps": 1, "scalarizations": 1}}
    kept = {}
    for name, order in (("one", lines), ("other", lines[::-1])):
        own.write_text("\n".join(order) + "\n")
        run = search_and_measure(SearchConfig.from_record(record), tmp_path / name).run
        files = ("warmstart.json", "trials/00000/by_probe.json", "heldout/base.jsonl")
        kept[name] = [(run.dir.path / file).read_bytes() for file in files]
    assert kept["one"] == kept["other"]


def test_a_judge_with_other_weights_is_refused(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_search(config, tmp_path / "run")
    monkeypatch.setattr(PhraseJudge, "fingerprint", lambda self: "phrases, others")
    with pytest.raises(RunError, match=r"other content of the judge .*new run with --run NAME"):
        run_search(config, tmp_path / "run")


def test_a_source_that_was_changed_is_refused_and_named(
    record: dict[str, Any], tmp_path: Path
) -> None:
    first, *others = record["models"]["sources"]
    own = shutil.copytree(first["path"], tmp_path / "own")
    sources = [{"name": first["name"], "path": str(own)}, *others]
    record["models"] = record["models"] | {"sources": sources}
    config = with_search(record, trials=1)
    run_search(config, tmp_path / "run")
    shutil.copy(Path(others[0]["path"]) / "model.safetensors", own / "model.safetensors")
    with pytest.raises(RunError, match=f"other content of {first['name']} .*new run with --run"):
        run_search(config, tmp_path / "run")


def test_a_second_runner_is_refused(config: SearchConfig, tmp_path: Path) -> None:
    from search.runs.rundir import RunDir

    with RunDir(tmp_path / "run").locked(), pytest.raises(RunError, match="in use by process"):
        run_search(config, tmp_path / "run")


def test_broken_trials_are_recorded_and_do_not_end_the_study(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Workbench.measure
    calls = iter(range(100))

    def sometimes(self: Workbench, *args: Any, **rest: Any) -> Measurement:
        call = next(calls)
        if call == 0:
            raise RuntimeError("out of memory")
        found = real(self, *args, **rest)
        if call == 2:
            return Measurement(found.scores | {"domain": Score(float("nan"), 0.0, 1)}, None)
        return found

    monkeypatch.setattr(Workbench, "measure", sometimes)
    run = run_search(config, tmp_path / "run")
    assert states(run.dir.path) == ["FAIL", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    errors = sorted(run.dir.path.glob("trials/*/error.txt"))
    assert [e.parent.name for e in errors] == ["00000", "00002"]
    assert "out of memory" in errors[0].read_text()
    assert "the score of domain is nan" in errors[1].read_text()


def test_a_study_in_which_most_trials_fail_stops_and_says_why(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: Workbench, *args: Any, **rest: Any) -> Measurement:
        raise RuntimeError("the judge is down")

    monkeypatch.setattr(Workbench, "measure", never)
    with pytest.raises(
        SafemergeError,
        match=r"4 of 4 trials failed.* with: RuntimeError: the judge is down .*error.txt",
    ):
        run_search(config, tmp_path / "run")


def test_kill_nine_loses_no_finished_trial_and_counts_none_twice(
    record: dict[str, Any], tmp_path: Path
) -> None:
    config = with_search(record, trials=12)
    home, file = tmp_path / "run", tmp_path / "run.toml"
    file.write_text(tomli_w.dumps(config.record()))
    command = [sys.executable, "-m", "search.cli.app", "search", str(file), "--run", str(home)]
    finished: set[Path] = set()
    for wanted in (2, 5, 7):
        with subprocess.Popen(
            command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as child:
            deadline = time.monotonic() + 120
            while len(list(home.glob("trials/*/scores.json"))) < wanted:
                assert child.poll() is None, "the search ended by itself"
                assert time.monotonic() < deadline, "the search makes no progress"
                time.sleep(0.005)
            os.kill(child.pid, signal.SIGKILL)
        now = set(home.glob("trials/*/scores.json"))
        assert finished <= now
        finished = now
    before = {path: path.read_bytes() for path in finished}
    run = run_search(config, home)
    assert all(path.read_bytes() == content for path, content in before.items())
    found = states(home)
    assert found.count("COMPLETE") == 12
    assert len(run.candidates) == 12
    assert set(found) <= {"COMPLETE", "FAIL"}
    recipes = [candidate.recipe.canonical_json() for candidate in run.candidates]
    assert len(set(recipes)) == 12


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """Press Ctrl-C. A test run in the background ignores SIGINT, so Python's handler is set."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_uninterrupted_lets_the_block_end_before_ctrl_c_is_raised(
    ctrl_c: Callable[[], None],
) -> None:
    done = []

    def record() -> None:
        with uninterrupted():
            ctrl_c()
            done.append("the block")

    with pytest.raises(KeyboardInterrupt):
        record()
    assert done == ["the block"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def lost(press: Callable[[], None]) -> None:
    """What libraries in C do to a Ctrl-C."""
    try:
        press()
    except KeyboardInterrupt:
        raise ValueError("could not determine the shape") from None


def test_interruptible_knows_of_a_ctrl_c_that_became_another_error(
    ctrl_c: Callable[[], None],
) -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        lost(ctrl_c)
    with pytest.raises(KeyboardInterrupt), interruptible(), suppress(ValueError):
        lost(ctrl_c)
    with pytest.raises(ValueError, match="another"), interruptible():
        raise ValueError("another error")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_ctrl_c_that_a_library_loses_stops_the_search_and_fails_no_trial(
    config: SearchConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ctrl_c: Callable[[], None],
) -> None:
    home = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Workbench, "measure", lambda *_, **rest: lost(ctrl_c))
        with pytest.raises(KeyboardInterrupt):
            run_search(config, home)
    assert not list(home.glob("trials/*/error.txt"))
    run = run_search(config, home)
    assert len(run.candidates) == 4
    assert not run.failures()


@pytest.mark.parametrize("write", [1, 2, 5, 9, 12, 15])
def test_ctrl_c_inside_a_write_of_the_journal_leaves_it_whole(
    config: SearchConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ctrl_c: Callable[[], None],
    write: int,
) -> None:
    append, writes = Journal.append_logs, []

    def pressed(self: Journal, logs: list[dict[str, Any]]) -> None:
        writes.append(logs)
        if len(writes) == write:
            ctrl_c()
        append(self, logs)

    home = tmp_path / "run"
    monkeypatch.setattr(Journal, "append_logs", pressed)
    with pytest.raises(KeyboardInterrupt):
        run_search(config, home)
    assert "RUNNING" not in states(home)
    monkeypatch.setattr(Journal, "append_logs", append)
    assert len(run_search(config, home).candidates) == 4


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(
    record: dict[str, Any], tmp_path: Path
) -> None:
    config = with_search(record, trials=300)
    home, file = tmp_path / "run", tmp_path / "run.toml"
    file.write_text(tomli_w.dumps(config.record()))
    command = [sys.executable, "-m", "search.cli.app", "search", str(file), "--run", str(home)]

    def heed_ctrl_c() -> None:
        """A test run in the background has SIGINT ignored, and its children would inherit that."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    ) as child:
        while not list(home.glob("trials/*/scores.json")):
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "the same command goes on" in stderr
    assert "Traceback" not in stderr
    assert "RUNNING" not in states(home)
    assert Run.load(home).candidates


def test_the_warm_start_is_charged_and_enqueued_first(
    record: dict[str, Any], tmp_path: Path
) -> None:
    warm = {"steps": 8, "scalarizations": 3, "batch": 4}
    run = run_search(with_search(record, trials=3, warm_start=warm), tmp_path / "run")
    points = run.dir.read("warmstart.json")["points"]
    assert len(points) == 5  # the ring; the balanced one at other ranks
    assert run.dir.read("warmstart.json")["evaluations"] == 24
    weights = run.candidates[0].recipe.weights
    assert weights["layer.0"]["domain"] == points[0]["layer.0:domain"]
    assert any(w != 0.6 for group in weights.values() for w in group.values())


def test_an_objective_without_probes_is_refused(record: dict[str, Any], tmp_path: Path) -> None:
    own = tmp_path / "probes.jsonl"
    lines = Path(record["probes"]["path"]).read_text().splitlines()
    own.write_text("\n".join(line for line in lines if '"domain"' not in line) + "\n")
    changed = record | {"probes": record["probes"] | {"path": str(own)}}
    with pytest.raises(ConfigError, match=r"objectives\.domain cannot be measured"):
        run_search(SearchConfig.from_record(changed), tmp_path / "run")


def test_a_limit_without_probes_is_refused(record: dict[str, Any], tmp_path: Path) -> None:
    own = tmp_path / "probes.jsonl"
    lines = Path(record["probes"]["path"]).read_text().splitlines()
    own.write_text("\n".join(line for line in lines if '"honest"' not in line) + "\n")
    changed = record | {
        "probes": record["probes"] | {"path": str(own)},
        "limits": {"honest": {"at_least": "best - 0.05"}},
    }
    with pytest.raises(ConfigError, match=r"limits\.honest cannot be measured"):
        run_search(SearchConfig.from_record(changed), tmp_path / "run")


def scored(run: Run) -> list[tuple[Recipe, Scores]]:
    """What later trials leave as it is; estimates of rates are refitted."""
    return [(candidate.recipe, candidate.scores) for candidate in run.candidates]


def test_a_run_with_relative_paths_goes_on_from_the_same_folder(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "probes.jsonl").write_text(Path(record["probes"]["path"]).read_text())
    record["probes"] = record["probes"] | {"path": "probes.jsonl"}
    record["search"] = record["search"] | {"trials": 1}
    Path(tmp_path / "run.toml").write_text(tomli_w.dumps(record))
    monkeypatch.chdir(tmp_path)
    first = run_search(SearchConfig.from_toml("run.toml"), "runs/run")
    second = run_search(SearchConfig.from_toml("run.toml", ["search.trials=2"]), "runs/run")
    assert scored(second)[:1] == scored(first)
    assert len(second.candidates) == 2
    record["search"] = record["search"] | {"trials": 3}
    third = run_search(SearchConfig.from_record(record), "runs/run")
    assert scored(third)[:2] == scored(second)


def test_held_out_probes_of_other_axes_alone_are_refused_before_the_search(
    record: dict[str, Any], tmp_path: Path
) -> None:
    probes = ProbeSet.from_jsonl(record["probes"]["path"])
    for name, axis in (("probes", "domain"), ("heldout", "honest")):
        probes.axis(axis).to_jsonl(tmp_path / f"{name}.jsonl")
    record["probes"] |= {
        name: str(tmp_path / f"{file}.jsonl")
        for name, file in (("path", "probes"), ("heldout", "heldout"))
    }
    record["objectives"] = {"domain": {}}
    with pytest.raises(ProbeError, match="probes are of honest and the search probes of domain"):
        search_and_measure(SearchConfig.from_record(record), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_probes_that_are_also_held_out_are_refused(record: dict[str, Any], tmp_path: Path) -> None:
    changed = record | {"probes": record["probes"] | {"heldout": record["probes"]["path"]}}
    with pytest.raises(ProbeError, match=r"share 32 prompts.*must not be searched on"):
        run_search(SearchConfig.from_record(changed), tmp_path / "run")


def test_over_refusal_can_be_an_objective(record: dict[str, Any], tmp_path: Path) -> None:
    changed = record | {
        "objectives": {"domain": {}, "over_refusal": {}},
        "search": {"trials": 2, "warm_start": {"steps": 2, "scalarizations": 2}},
    }
    run = run_search(SearchConfig.from_record(changed), tmp_path / "run")
    assert run.front().directions == {"domain": True, "over_refusal": False}


def test_a_search_may_choose_methods_modes_and_numbers_over_depth(
    record: dict[str, Any], tmp_path: Path
) -> None:
    changed = record | {
        "merge": {"method": ["resm", "ties"], "params": {"ties": {"normalize": True}}},
        "space": {
            "places": "points(2)+kind",
            "zero_prob": 0.2,
            "prior": {"safe": 1.0},
            "outliers": ["none", "clip"],
            "per_source": {"density": {"range": [0.3, 0.9]}},
        },
        "search": {
            "trials": 16,
            "sampler": "random",
            "warm_start": {"steps": 2, "scalarizations": 2},
        },
    }
    run = run_search(SearchConfig.from_record(changed), tmp_path / "run")
    descended = run.candidates[0].recipe
    assert (descended.method, descended.params["outliers"]) == ("resm", "none")
    drawn = [candidate.recipe for candidate in run.candidates]
    assert {recipe.method for recipe in drawn} == {"resm", "ties"}
    assert {recipe.params.get("outliers") for recipe in drawn} == {"none", "clip", None}
    assert any(0.0 in row.values() for recipe in drawn for row in recipe.weights.values())
    assert states(run.dir.path) == ["COMPLETE"] * 16


def test_after_a_warm_start_every_method_and_mode_is_tried_at_the_balanced_recipe(
    record: dict[str, Any], tmp_path: Path
) -> None:
    changed = record | {
        "merge": {"method": ["resm", "ties", "task_arithmetic"]},
        "space": {"places": "layers", "outliers": ["none", "clip"], "rank_ratio": [0.25, 0.25]},
        "search": {"trials": 4, "warm_start": {"steps": 1, "scalarizations": 1}},
    }
    run = run_search(SearchConfig.from_record(changed), tmp_path / "run")
    first, *others = [candidate.recipe for candidate in run.candidates]
    assert [recipe.params.get("outliers") for recipe in (first, others[0])] == ["none", "clip"]
    assert [recipe.method for recipe in others] == ["resm", "ties", "task_arithmetic"]
    assert all(recipe.weights == first.weights for recipe in others)


def test_without_a_warm_start_the_prior_is_tried_first(
    record: dict[str, Any], tmp_path: Path
) -> None:
    space = {"places": "points(2)+kind", "zero_prob": 0.2, "prior": {"safe": 1.0}}
    config = with_search(record | {"space": space}, trials=1)
    first = run_search(config, tmp_path / "run").candidates[0].recipe
    begun = {"domain": 0.6, "safe": 1.0, "honest": 0.6}
    assert first.weights["layer.0.attention"] == pytest.approx(begun)


def test_a_search_stops_at_its_target_says_so_and_goes_on_when_it_is_raised(
    record: dict[str, Any], tmp_path: Path
) -> None:
    low, high = ({"target": {"domain": value}} for value in (0.0, 1.0))
    run = run_search(with_search(record, stop=low), tmp_path / "run")
    assert len(run.candidates) == 1
    assert (
        run.dir.read("front/search.json")["stopped"] == "trial 0 reaches the target, by its replies"
    )
    again = run_search(with_search(record, stop=low), tmp_path / "run")
    assert again.candidates == run.candidates
    on = run_search(with_search(record, stop=high), tmp_path / "run")
    assert on.dir.read("front/search.json")["stopped"] == "4 trials are complete"


def test_a_finished_search_scores_nothing_again(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_search(SearchConfig.from_record(record), tmp_path / "run")
    front = (run.dir.path / "front/search.json").read_bytes()

    def again(*args: object, **rest: object) -> Measurement:
        raise AssertionError("scored again")

    monkeypatch.setattr(LikelihoodEvaluator, "measure_live", again)
    run_search(SearchConfig.from_record(record), tmp_path / "run")
    assert (run.dir.path / "front/search.json").read_bytes() == front


def test_a_recipe_that_was_scored_before_is_not_scored_again(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, scored = Workbench.measure, []

    def count(self: Workbench, *args: Any, **rest: Any) -> Measurement:
        scored.append(args[0])
        return real(self, *args, **rest)

    monkeypatch.setattr(Workbench, "measure", count)
    # Every weight is off but once in a thousand draws.
    changed = record | {
        "merge": {"method": "task_arithmetic"},
        "space": {
            "places": "global",
            "weight": [0.0, 1e-9],
            "zero_prob": 0.999,
            "scale": [1.0, 1.0],
        },
        "limits": {},
        "search": record["search"] | {"trials": 5, "sampler": "random"},
        "probes": record["probes"] | {"validation_frac": 0.0},
    }
    run = run_search(SearchConfig.from_record(changed), tmp_path / "run")
    first, *others = run.candidates
    assert scored == [first.recipe]
    assert all(c.recipe == first.recipe and c.scores == first.scores for c in others)
    same = [run.dir.read(f"trials/{number:05d}/same_as.json") for number in range(5)]
    assert same == [None] + [{"trial": 0}] * 4
    assert [point.number for point in run.front().points] == [0]
