"""A search that starts from another run: what is tried first, what is kept, what is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from safemerge.errors import ConfigError, RunError, SafemergeError
from search.baselines.ablations import random_search, without_safety
from search.baselines.registry import baseline_runs
from search.config import SearchConfig
from search.results.run import Run
from search.runs.rundir import RunDir
from search.runs.workbench import Workbench
from search.scoring.likelihood import Measurement
from search.study.storage import open_study
from search.study.study import run_search


@pytest.fixture
def coarse(record: dict[str, Any], tmp_path: Path) -> Run:
    """Few numbers: a finished run with one weight for each source."""
    config = record | {"space": {"places": "global", "rank_places": "global"}}
    return run_search(SearchConfig.from_record(config), tmp_path / "coarse")


def finer(record: dict[str, Any], coarse: Run, **search: Any) -> SearchConfig:
    own = record["search"] | {"start_from": str(coarse.dir.path), **search}
    return SearchConfig.from_record(record | {"search": own})


def started(home: Path, run: Run) -> list[dict[str, Any]]:
    """Parameters of the trials that are the other run's, as often as they were enqueued."""
    points = RunDir(home).read("start.json")["points"]
    trials = open_study(RunDir(home), run.config).get_trials(deepcopy=False)
    fixed = [trial.system_attrs.get("fixed_params") for trial in trials]
    return [point for point in fixed if point in points]


@pytest.mark.parametrize("places", ["layers", "points(2)", "kernel"])
def test_pick_and_front_of_the_other_run_are_tried_first_and_once(
    record: dict[str, Any], coarse: Run, tmp_path: Path, places: str
) -> None:
    home, finer_places = tmp_path / "fine", record | {"space": {"places": places, "zero_prob": 0.2}}
    run_search(finer(finer_places, coarse, trials=2), home)
    run = run_search(finer(finer_places, coarse, trials=12), home)
    own = [coarse.pick(), *(c for c in coarse.front().points if c != coarse.pick())]
    taken = started(home, run)
    assert len(taken) == len(RunDir(home).read("start.json")["points"]) == 1
    first = run.candidates[0].recipe
    for group in first.weights:
        assert first.weights_at(group) == pytest.approx(own[0].recipe.weights_at("all"), abs=1e-6)


def test_of_a_front_as_many_points_are_tried_as_a_quarter_of_the_trials(
    record: dict[str, Any], coarse: Run, tmp_path: Path
) -> None:
    home = tmp_path / "fine"
    run = run_search(finer(record, coarse, trials=12), home)
    shown = [c.recipe.weights_at("all") for c in coarse.reported_points()]
    taken = [c.recipe.weights_at("layer.0") for c in run.candidates[: len(started(home, run))]]
    assert taken[0] == pytest.approx(coarse.pick().recipe.weights_at("all"))
    assert 1 < len(taken) == min(3, len(shown))
    for weights in taken:
        assert any(weights == pytest.approx(other) for other in shown)


def test_the_warm_start_sets_out_from_the_pick(
    record: dict[str, Any], coarse: Run, tmp_path: Path, linearised: list[torch.Tensor]
) -> None:
    steps = {"steps": 1, "scalarizations": 1}
    run_search(finer(record, coarse, trials=1, warm_start=steps), tmp_path / "fine")
    wanted = torch.tensor(coarse.pick().recipe.weights_at("all"))
    knots = linearised[0].view(-1, len(wanted))
    torch.testing.assert_close(knots, wanted.expand_as(knots))


def test_it_goes_on_when_the_other_run_is_gone(
    record: dict[str, Any], coarse: Run, tmp_path: Path
) -> None:
    first = run_search(finer(record, coarse, trials=2), tmp_path / "fine")
    shutil.rmtree(coarse.dir.path)
    more = run_search(finer(record, coarse, trials=4), tmp_path / "fine")
    # Their estimated rates may differ, since more trials have answered.
    found, before = ([(c.recipe, c.scores) for c in r.candidates] for r in (more, first))
    assert found[:2] == before
    assert len(more.candidates) == 4


def test_points_of_a_method_that_is_not_searched_any_more_are_left_out(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all trials of the other run as its front, so that both methods are there."""
    monkeypatch.setattr(Run, "reported_points", lambda run: run.candidates)
    wide = {"merge": {"method": ["resm", "task_arithmetic"]}, "space": {"places": "global"}}
    draws = record["search"] | {"trials": 12, "sampler": "random"}
    coarse = run_search(SearchConfig.from_record(record | wide | {"search": draws}), tmp_path / "c")
    method = coarse.pick().recipe.method
    assert {c.recipe.method for c in coarse.reported_points()} == {"resm", "task_arithmetic"}
    one = record | {"merge": {"method": method}, "space": {"places": "global"}}
    home = tmp_path / "fine"
    run = run_search(finer(one, coarse, trials=48, stop={"target": {"domain": 0.0}}), home)
    points = RunDir(home).read("start.json")["points"]
    assert len(points) == sum(c.recipe.method == method for c in coarse.reported_points())
    assert run.candidates[0].recipe.method == method


def test_what_cannot_be_started_from_is_refused_and_nothing_is_written(
    record: dict[str, Any], coarse: Run, tmp_path: Path
) -> None:
    def refused(changed: dict[str, Any], message: str, **search: Any) -> None:
        with pytest.raises((ConfigError, RunError), match=message):
            run_search(finer(changed, coarse, **search), tmp_path / "fine")
        assert not (tmp_path / "fine").exists()

    two = {**record["models"], "sources": record["models"]["sources"][:2]}
    refused(record | {"models": two}, r"start_from = .*coarse: the recipe merges")
    refused(record | {"merge": {"method": "tsvm"}}, "method is 'resm', and this search is over")
    # Another seed splits the same probes otherwise.
    refused(record | {"seed": 4}, "held-out probes of this search, such as .*, were search probes")
    probes = Path(record["probes"]["path"])
    changed = tmp_path / "changed.jsonl"
    changed.write_text("\n".join(probes.read_text().splitlines()[:-1]) + "\n")
    config = coarse.dir.path / "config.toml"
    before = config.read_text()
    config.write_text(before.replace(str(probes), str(changed)))
    refused(record, "the probes of that run are needed.*they have changed since")
    config.write_text(before.replace(str(probes), str(tmp_path / "gone.jsonl")))
    refused(record, "the probes of that run are needed.*gone.jsonl")
    config.write_text(before)
    shutil.rmtree(coarse.dir.path / "trials")
    refused(record, "search.start_from: .*coarse has no finished trial yet")
    shutil.rmtree(coarse.dir.path)
    refused(record, "search.start_from: .*coarse is not a run directory")


def test_a_warm_start_needs_a_pick_whose_method_has_a_gradient(
    record: dict[str, Any], tmp_path: Path
) -> None:
    """The first method of the search has one, the one that was picked has none."""
    plain = record | {"merge": {"method": "iso_cts"}, "space": {"places": "global"}}
    coarse = run_search(SearchConfig.from_record(plain), tmp_path / "coarse")
    both = record | {"merge": {"method": ["task_arithmetic", "iso_cts"]}}
    with pytest.raises(ConfigError, match="'iso_cts' has no gradient"):
        run_search(finer(both, coarse, warm_start={"steps": 2}), tmp_path / "fine")
    assert not (tmp_path / "fine").exists()


def test_the_other_runs_evaluations_count(
    record: dict[str, Any], coarse: Run, tmp_path: Path
) -> None:
    """For what the search is compared with, beside its own, steps that were left untaken too."""
    warm = {"steps": 3, "scalarizations": 1}
    run = run_search(finer(record, coarse, trials=2, warm_start=warm), tmp_path / "fine")
    begun = run.dir.read("warmstart.json")
    assert begun is not None
    run.dir.write("warmstart.json", begun | {"evaluations": 3})  # as if it had stopped after one
    plans = {
        name: plan.config.search for name, plan in baseline_runs([("random", "")], run.config, run)
    }
    assert plans["random_search"].trials == 2 + 3 * 3 + 4
    assert plans["random_search"].sampler == "random"
    assert plans["random_search"].warm_start.steps == 0


def test_failures_of_what_comes_first_count(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: Any, **kwargs: Any) -> Measurement:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(Workbench, "measure", failing)
    warm = {"steps": 1, "scalarizations": 3}
    config = record | {"search": record["search"] | {"failed_frac": 0.0, "warm_start": warm}}
    with pytest.raises(SafemergeError, match=r"4 of 4 trials failed.*out of luck"):
        run_search(SearchConfig.from_record(config), tmp_path / "run")


def test_what_a_search_is_compared_with_starts_from_nothing(
    record: dict[str, Any], coarse: Run
) -> None:
    config = finer(record | {"objectives": {"domain": {}, "harmless": {}}}, coarse)
    unsafe = without_safety(config)
    assert unsafe is not None
    assert unsafe.search.start_from is None
    assert random_search(config, 4).search.start_from is None


def test_the_folder_is_taken_from_where_the_file_is(record: dict[str, Any], tmp_path: Path) -> None:
    own = record["search"] | {"start_from": "runs/coarse"}
    config = SearchConfig.from_record(record | {"search": own}, folder=tmp_path)
    assert config.search.start_from == str(tmp_path / "runs/coarse")
