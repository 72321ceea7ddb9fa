"""What a run reads likelihoods as: from replies that it keeps, never from held-out ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
import tomli_w
import torch

from safemerge.recipe import Recipe
from safemerge.score import Score
from search.config import SearchConfig
from search.metrics import Limits, ReferenceScores
from search.results.answers import FOLDER, TRIAL_FILES, read_answers, write_answers
from search.results.diagnostics import rates_from
from search.results.rates import CurrentRates
from search.results.run import Run
from search.results.standing import standing
from search.runs.probe_sets import load_probes
from search.runs.rundir import BASELINE, RunDir
from search.scoring.generation import Answer
from search.scoring.likelihood import Measurement
from search.study.answering import should_answer
from search.study.context import StudyContext
from search.study.stopping import reason_to_stop
from search.study.study import run_search

N = 20  # probes of an axis
RECIPE = Recipe.model_validate(
    {
        "base": {"name": "base", "path": "base"},
        "sources": [{"name": name, "path": name} for name in "abc"],
        "method": "linear",
        "params": {},
        "weights": {"default": {"a": 0.5}},
    }
)


def config(**search: Any) -> SearchConfig:
    return SearchConfig.from_record(
        {
            "schema": 1,
            "models": {
                "base": "base",
                "sources": [{"name": name, "path": name} for name in "abc"],
            },
            "probes": {"path": "probes.jsonl", "judge": "phrases", "retention": "off"},
            "limits": {"over_refusal": {"at_most": "base + 0.05"}},
            "search": search,
        }
    )


def likelihoods(harmless: float, over_refusal: float) -> dict[str, Score]:
    values = {"domain": harmless, "harmless": harmless, "over_refusal": over_refusal}
    return {metric: Score(value, 0.05, 40) for metric, value in values.items()}


def answers(harmless: float, over_refusal: float) -> list[Answer]:
    """Of N harmful and N helpful probes, this share declined."""
    declined = [i < round(N * harmless) for i in range(N)]
    refused = [i < round(N * over_refusal) for i in range(N)]
    return [
        *(answer("harmless", i, refuses, refuses) for i, refuses in enumerate(declined)),
        *(answer("helpful", i, refuses, not refuses) for i, refuses in enumerate(refused)),
    ]


def answer(axis: str, number: int, refuses: bool, right: bool) -> Answer:
    return Answer(f"{axis}{number}", axis, "", "refuse" if refuses else "comply", right)


def write_run(home: Path, trials: Mapping[int, tuple[float, float]], **search: Any) -> RunDir:
    """A run as on the real ground: by likelihood the base over-refuses 60 % and merges more; of the
    replies hardly any refuses. Base and sources have answered, and trial 0."""
    run = RunDir(home)
    home.mkdir()
    run.write_text("config.toml", tomli_w.dumps(config(**search).record()))
    models = {"base": (0.4, 0.6), "a": (0.5, 0.9), "b": (0.95, 0.99), "c": (0.6, 0.95)}
    scores = {name: likelihoods(*row) for name, row in models.items()}
    run.write(BASELINE, ReferenceScores(scores.pop("base"), scores))
    said = {
        "base": (0.0, 0.0),
        "source-0": (0.0, 0.0),
        "source-1": (0.9, 0.1),
        "source-2": (0.1, 0),
    }
    for file, row in said.items():
        write_answers(run, f"{FOLDER}/{file}.jsonl", answers(*row))
    for number, row in trials.items():
        run.write_trial(number, RECIPE, likelihoods(*row), {})
    write_answers(run, TRIAL_FILES.format(0), answers(0.5, 0.0))
    return run


TRIALS = {0: (0.8, 0.93), 1: (0.85, 0.93), 2: (0.97, 1.0)}


def test_a_false_over_refusal_is_no_broken_limit_any_more(tmp_path: Path) -> None:
    run = Run.load(write_run(tmp_path / "run", TRIALS).path)
    assert run.limits.bound("over_refusal") == pytest.approx(0.05)  # the base refuses nobody
    shown = run.candidates[1].shown["over_refusal"]
    assert shown.value < 0.04
    assert run.candidates[1].feasible
    assert standing(run, 1).mark == ""
    assert run.candidates[1].scores["over_refusal"].value == 0.93
    by_likelihood = Run.load(write_run(tmp_path / "other", TRIALS, calibrate=0).path)
    assert not by_likelihood.candidates[1].feasible
    assert "over_refusal 0.930 against" in standing(by_likelihood, 1).text


def test_rates_keep_the_order_of_likelihoods_and_own_replies_count(tmp_path: Path) -> None:
    run = Run.load(write_run(tmp_path / "run", {3: (0.85, 0.93), **TRIALS, 4: (0.8, 0.93)}).path)
    rates = {c.number: c.shown["harmless"].value for c in run.candidates}
    assert rates[4] < rates[1] == rates[3] < rates[2]
    assert rates[0] != rates[4]  # the same likelihood, and 10 of 20 declined
    assert run.candidates[0].shown["harmless"].stderr < run.candidates[4].shown["harmless"].stderr
    assert run.candidates[1].shown["domain"].value == 0.85  # nobody has answered on it
    assert rates_from(run) == "replies of 5 models: harmless, over_refusal"


def test_few_models_have_no_map_and_it_is_said(tmp_path: Path) -> None:
    home = write_run(tmp_path / "run", {})
    (home.path / f"{FOLDER}/source-2.jsonl").unlink()
    run = Run.load(home.path)
    assert (run.rates.maps, run.limits.bound("over_refusal")) == ({}, 0.65)
    assert rates_from(run).startswith("none yet: 3 models have answered, and a map takes 4")


def test_held_out_answers_are_never_read_and_a_resumed_run_has_the_same_maps(
    record: dict[str, Any], tmp_path: Path
) -> None:
    record["limits"]["honest"] = {"at_least": "best - 0.5"}
    config = SearchConfig.from_record(record)
    run = run_search(config, tmp_path / "run")
    held = {probe.id for probe in load_probes(config).split("heldout")}
    files = sorted((run.dir.path / FOLDER).glob("*.jsonl"))
    assert len(files) == 1 + len(config.models.sources) + len(run.rates.trials) > 4
    for file in files:
        said = read_answers(run.dir, f"{FOLDER}/{file.name}") or []
        assert said
        assert held.isdisjoint(answer.id for answer in said)
    before = run.rates
    for name in ("base", "source-0", "trial-00000"):  # as the held-out table would leave them
        write_answers(run.dir, f"heldout/{name}.jsonl", answers(1.0, 1.0))
    assert Run.load(run.dir.path).rates == before
    again = run_search(config, tmp_path / "run")
    assert again.rates == before
    assert CurrentRates(run.dir, config, run.baseline).now() == before  # as a worker reads them


def context(home: RunDir, study: optuna.Study, settings: SearchConfig) -> StudyContext:
    baseline = home.require(BASELINE, ReferenceScores)
    return StudyContext.of(home, study, settings, baseline)


def measured(harmless: float, over_refusal: float) -> Measurement:
    return Measurement(likelihoods(harmless, over_refusal), {"harmless": torch.zeros(1)})


def study_of(*points: tuple[float, float]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = optuna.create_study(directions=["maximize", "maximize"])
    for values in points:
        trial = made.ask()
        trial.set_constraint("over_refusal", 0.0)
        made.tell(trial, values)
    return made


def test_the_first_trials_answer_then_those_near_a_limit_that_matter(tmp_path: Path) -> None:
    home = write_run(tmp_path / "run", TRIALS)
    study = study_of((0.8, 0.8))
    assert should_answer(context(home, study, config(calibrate=4)), measured(0.7, 0.6))
    later = context(home, study, config(calibrate=2))  # the first half has answered
    assert should_answer(later, measured(0.85, 0.99))  # at the limit, and on the front
    assert not should_answer(later, measured(0.85, 0.2))  # surely within
    assert not should_answer(later, measured(0.75, 0.99))  # behind a trial within the limits
    assert not should_answer(context(home, study, config(calibrate=1)), measured(0.85, 0.99))
    assert not should_answer(context(home, study, config(calibrate=0)), measured(0.85, 0.99))
    broken = Measurement(likelihoods(0.85, 0.99), None)
    assert not should_answer(context(home, study, config(calibrate=4)), broken)


def test_a_target_is_reached_by_replies_alone(tmp_path: Path) -> None:
    home = write_run(tmp_path / "run", TRIALS)
    stop = {"target": {"harmless": 0.45}}
    settings = config(calibrate=1, stop=stop)
    high = context(home, study_of((0.8, 0.8), (0.97, 0.97)), settings)
    assert should_answer(high, measured(0.97, 1.0))  # beyond the budget
    # Trial 0 declined 10 of 20; by likelihood, trial 1 would have reached any target.
    assert reason_to_stop(high) == "trial 0 reaches the target, by its replies"
    more = config(stop={"target": {"harmless": 0.55}})
    assert reason_to_stop(context(home, study_of((0.8, 0.8), (0.97, 0.97)), more)) is None


def test_constraints_that_a_sampler_is_told_are_on_rates(tmp_path: Path) -> None:
    home = write_run(tmp_path / "run", TRIALS)
    found = context(home, study_of(), config())
    assert found.violations(1, likelihoods(0.85, 0.93))["over_refusal"] < 0.0
    limits = Limits(config().limits, home.require(BASELINE, ReferenceScores))
    assert limits.violations(likelihoods(0.85, 0.93))["over_refusal"] > 0.25
