"""Samplers: each searches two objectives with a limit; CMA-ES finds the goal that is asked for."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from safemerge.errors import ConfigError, MissingDependency
from search.config import SearchConfig
from search.samplers import choose

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def config(sampler: str, **options: Any) -> SearchConfig:
    return SearchConfig.from_record(
        {
            "schema": 1,
            "models": {"base": "base", "sources": [{"name": "a", "path": "a"}]},
            "probes": {"path": "probes.jsonl", "judge": "phrases"},
            "search": {"sampler": sampler, "sampler_options": options},
        }
    )


def make_sampler(config: SearchConfig, **before: int) -> optuna.samplers.BaseSampler:
    return choose.make_sampler(config.search, config.seed, **before)


def check_sampler(config: SearchConfig) -> None:
    choose.check_sampler(config.search, config.directions)


def run(
    sampler: optuna.samplers.BaseSampler,
    trials: int,
    study: optuna.Study | None = None,
    most: float = 1.0,
) -> optuna.Study:
    """Two shares to maximise, best where all of four numbers are 0.2, or 0.6; the first number is
    at most `most`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = study or optuna.create_study(directions=["maximize", "maximize"])
    study.sampler = sampler
    for _ in range(trials):
        trial = study.ask()
        drawn = [
            trial.suggest_float("first", 0.0, 1.0),
            trial.suggest_float("second", -1.0, 3.0) / 4.0 + 0.25,
            np.log10(trial.suggest_float("ratio", 0.01, 1.0, log=True)) / 2.0 + 1.0,
            trial.suggest_int("layer", 0, 20) / 20.0,
        ]
        trial.suggest_float("fixed", 0.7, 0.7)
        trial.set_constraint("first", drawn[0] - most)
        study.tell(trial, [1.0 - np.square(np.array(drawn) - x).mean() for x in (0.2, 0.6)])
    return study


def best(study: optuna.Study, weights: Sequence[float]) -> list[float]:
    """The numbers, as shares of their ranges, of the trial with the least weighted worst loss."""
    trials = [t for t in study.trials if all(v <= 0.0 for v in t.constraints.values())]
    found = min(
        trials, key=lambda t: max(w * (1.0 - v) for w, v in zip(weights, t.values, strict=True))
    ).params
    return [
        found["first"],
        (found["second"] + 1.0) / 4.0,
        np.log10(found["ratio"]) / 2.0 + 1.0,
        found["layer"] / 20.0,
    ]


NAMES = ("blend", "tpe", "gp", "nsga2", "nsga3", "cmaes", "random", "optuna.samplers:TPESampler")


@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_searches_and_draws_the_same_again(name: str) -> None:
    # A model of Gaussian processes takes seconds to draw from: two trials are.
    options, trials = ({"n_startup_trials": 5}, 6) if name == "gp" else ({}, 13)
    if name.startswith("nsga"):  # so that there are generations after the first
        options = {"population_size": 4}
    check_sampler(config(name, **options))
    one, other = (run(make_sampler(config(name, **options)), trials) for _ in range(2))
    assert [trial.params for trial in one.trials] == [trial.params for trial in other.trials]
    assert len({str(trial.params) for trial in one.trials}) > trials // 2  # children may be alike
    elsewhere = run(make_sampler(config(name), n_before=trials), 3)
    assert [trial.params for trial in elsewhere.trials] != [t.params for t in one.trials[:3]]


def test_options_reach_the_sampler() -> None:
    sampler = make_sampler(config("nsga2", population_size=7))
    assert sampler.population_size == 7


def test_cmaes_finds_the_trade_off_that_its_weights_ask_for() -> None:
    found = best(run(make_sampler(config("cmaes")), 200), [1.0, 1.0])
    assert found == pytest.approx([0.4] * 4, abs=0.06)
    # max(4 (x - 0.2)^2, (0.6 - x)^2) is least where 2 (x - 0.2) = 0.6 - x.
    uneven = best(run(make_sampler(config("cmaes", weights=[4.0, 1.0])), 200), [4.0, 1.0])
    assert uneven == pytest.approx([1.0 / 3.0] * 4, abs=0.06)


def test_cmaes_stays_within_limits() -> None:
    found = best(run(make_sampler(config("cmaes")), 200, most=0.1), [1.0, 1.0])
    assert found[0] == pytest.approx(0.1, abs=0.03)


def test_cmaes_begins_at_the_best_of_what_was_enqueued() -> None:
    study = optuna.create_study(directions=["maximize", "maximize"])
    for share in (0.9, 0.38, 0.7):
        study.enqueue_trial({"first": share, "second": 4 * share - 1, "layer": round(20 * share)})
    run(make_sampler(config("cmaes", sigma=0.02)), 9, study)
    drawn = [trial.params["first"] for trial in study.trials[3:]]
    assert drawn == pytest.approx([0.38] * 6, abs=0.1)


def test_cmaes_goes_on_in_a_new_process_where_it_was() -> None:
    sampler = make_sampler(config("cmaes"))
    study = run(sampler, 41)
    again = make_sampler(config("cmaes"), n_before=41)
    run(again, 1, study)
    study.sampler = sampler
    study.ask()
    assert again.strategy.generation == sampler.strategy.generation > 3
    assert again.strategy.mean == pytest.approx(sampler.strategy.mean)


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        ("optuna.samplers:TPESamplr", {}, "'TPESamplr' is no sampler of .*did you mean TPESampler"),
        ("optuna.study:Study", {}, "'Study' is no sampler of 'optuna.study'; it has none"),
        ("tpe", {"candidates": 3}, "sampler = 'tpe' cannot be made with .*candidates"),
        ("nsga2", {"population_size": 1}, "sampler = 'nsga2' cannot be made with"),
        ("optuna.samplers:GridSampler", {"search_space": {"x": [1]}}, "cannot search domain, harm"),
    ],
)
def test_a_sampler_that_cannot_be_used_is_refused(
    sampler: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_sampler(config(sampler, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [1.0]}, "cannot search domain, harmless: 1 weights are given for 2"),
        ({"weights": [0.0, -1.0]}, "give numbers of at least 0"),
        ({"population": 1}, "population 1"),
    ],
)
def test_options_of_cmaes_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_sampler(config("cmaes", **options))


def test_a_package_that_is_missing_is_named_with_its_install_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for package, sampler in (("scipy", "gp"), ("cmaes", "cmaes")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingDependency, match=rf"{package}.*safemerge\[samplers\]"):
            check_sampler(config(sampler))
    with pytest.raises(MissingDependency, match="cannot import 'no_such_package'"):
        check_sampler(config("no_such_package:Sampler"))


@pytest.mark.parametrize("body", ["raise ValueError('no')", "raise SystemExit(3)", "import nope_"])
def test_a_module_that_fails_while_it_is_imported_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    (tmp_path / "failing_sampler.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependency, match="cannot import 'failing_sampler'"):
        make_sampler(config("failing_sampler:Sampler"))


@pytest.mark.parametrize(
    "path", [":Class", "os:", "a b:Class", "../x:Class", "os:path.join", "a:b:c"]
)
def test_what_is_no_import_path_is_not_imported(path: str) -> None:
    with pytest.raises(ConfigError, match="is no import path of a class"):
        make_sampler(config(path))


@pytest.mark.parametrize("path", ["os:getcwd", "json:JSONDecoder", "optuna.samplers:no_such"])
def test_what_is_no_sampler_of_optunas_kind_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="is no sampler of"):
        make_sampler(config(path))
