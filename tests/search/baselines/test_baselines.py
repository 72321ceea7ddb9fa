"""The baselines of Hammoud et al. as runs: what they go by, begin with, spend and are asked for.

The evaluator's fitness is tested here too, since it is what they go by.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from safemerge.errors import ConfigError, SafemergeError
from safemerge.methods import get_method
from safemerge.recipe import Recipe
from search.baselines.fitness import BaselineRun, fitness_weights
from search.baselines.grid import grid
from search.baselines.lm_cocktail import lm_cocktail
from search.baselines.registry import (
    BASELINES,
    METHODS,
    baseline_runs,
    check_baselines,
    parse_baselines,
)
from search.config import SearchConfig
from search.results.heldout_table import measure_run
from search.results.run import Run
from search.runs.probe_sets import load_probes
from search.runs.workbench import Workbench, open_workbench
from search.scoring.likelihood import LikelihoodEvaluator
from search.study.study import run_search
from synth.engines.transformers import TransformersEngine
from synth.probes.probe import ProbeSet
from synth.zoo import Zoo


@pytest.fixture(scope="module")
def finished(raw_zoo: Zoo, probe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search of two trials and its six evaluations of warm start."""
    sources = [{"name": name, "path": str(path)} for name, path in raw_zoo.sources.items()]
    warm = {"steps": 2, "scalarizations": 1, "batch": 2}
    config = SearchConfig.from_record(
        {
            "models": {"base": str(raw_zoo.base), "sources": sources},
            "merge": {"method": "task_arithmetic"},
            "space": {"places": "global"},
            "probes": {
                "path": str(probe_file),
                "heldout_frac": 0.25,
                "max_tokens": 4,
                "judge": "phrases",
            },
            "search": {"trials": 2, "warm_start": warm},
        }
    )
    return run_search(config, tmp_path_factory.mktemp("finished") / "run")


def planned(run: Run, *names: str) -> dict[str, BaselineRun]:
    return dict(baseline_runs(parse_baselines(names), run.config, run))


# ---- the fitness ----------------------------------------------------------------------------


def test_the_fitness_is_the_papers_on_another_scale(raw_zoo: Zoo, probe_file: Path) -> None:
    """exp((L_safety + alpha L_expert) / (1 + alpha)), from token log-likelihoods one by one."""
    probes = ProbeSet.from_jsonl(probe_file).probes
    engine = TransformersEngine(raw_zoo.base)
    means: dict[str, list[float]] = {}
    for probe in probes:
        (found,) = engine.loglikelihood([(probe.prompt, probe.answer)])
        means.setdefault(probe.axis, []).append(found.logprob / found.tokens)
    expected = math.fsum(means["harmless"]) / 8 + 0.3 * math.fsum(means["domain"]) / 8
    evaluator = LikelihoodEvaluator(engine, probes, fitness=fitness_weights(True))
    score = evaluator.score_live()["fitness"]
    assert 1.3 * math.log(score.value) == pytest.approx(expected, rel=1e-5)
    assert score.n == 16
    alone = LikelihoodEvaluator(engine, probes, fitness=fitness_weights(False)).score_live()
    errors = torch.tensor(means["domain"]).std().item() / 8**0.5
    assert math.log(alone["fitness"].value) == pytest.approx(math.fsum(means["domain"]) / 8)
    least = 1 / (8 + 4)  # that of eight equal values
    assert alone["fitness"].stderr == pytest.approx(
        max(alone["fitness"].value * errors, least), rel=1e-4
    )
    assert "fitness" not in LikelihoodEvaluator(engine, probes).score_live()


@pytest.mark.parametrize(
    ("objectives", "limits", "message"),
    [
        ({"fitness": {}}, {}, "has no weights; write, for example"),
        ({"fitness": {"weights": {"harmles": 1.0}}}, {}, "did you mean harmless"),
        ({"fitness": {"weights": {"domain": 0.0}}}, {}, "domain is 0.0; give a number above 0"),
        ({"domain": {"weights": {"domain": 1.0}}}, {}, "domain has weights, which only fitness"),
        ({"domain": {}}, {"fitness": {"at_least": 0.5}}, "fitness is an objective only"),
    ],
)
def test_a_fitness_without_sense_is_refused(
    record: dict[str, Any], objectives: dict[str, Any], limits: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchConfig.from_record(record | {"objectives": objectives, "limits": limits})


def test_a_search_may_go_by_a_fitness_with_a_warm_start(
    record: dict[str, Any], tmp_path: Path
) -> None:
    weights = {"harmless": 1.0, "honest": 0.5}
    warm = {"steps": 2, "scalarizations": 2, "batch": 2}
    changes = {"objectives": {"fitness": {"weights": weights}}}
    changes["search"] = {"trials": 3, "warm_start": warm}
    run = run_search(SearchConfig.from_record(record | changes), tmp_path / "run")
    points = run.dir.read("warmstart.json")["points"]
    assert len(points) == 4  # the ring; two other ranks
    best = max(candidate.scores["fitness"].value for candidate in run.candidates)
    assert run.pick().scores["fitness"].value == best


# ---- what each of them is -------------------------------------------------------------------


def test_evomm_begins_with_equal_weights_and_goes_by_the_fitness(
    finished: Run, tmp_path: Path
) -> None:
    plans = planned(finished, "evomm:dare_ties")
    with_safety, without = plans.values()
    assert list(plans) == ["evomm_dare_ties", "evomm_dare_ties_without_safety"]
    assert with_safety.config.fitness == {"harmless": 1.0, "domain": 0.3}
    assert without.config.fitness == {"domain": 1.0}
    assert with_safety.config.search.trials == without.config.search.trials == 2 + 3 * 2
    assert (with_safety.config.search.sampler, with_safety.config.limits) == ("cmaes", {})

    study = with_safety.config.search.model_copy(update={"trials": 2})
    config = with_safety.config.model_copy(update={"search": study})
    run = run_search(config, tmp_path / "run", first=with_safety.first)
    first, *others = (candidate.recipe for candidate in run.candidates)
    names = [source.name for source in first.sources]
    for group in ("outside", "layer.0", "layer.1"):
        assert first.weights_at(group) == [1 / 3] * 3
        assert first.per_source_at("density", group) == dict.fromkeys(names, 1.0)
    assert len(set(others[0].weights_at("layer.0"))) == 3
    assert all(0 <= d <= 1 for d in others[0].per_source_at("density", "layer.0").values())
    best = max(candidate.scores["fitness"].value for candidate in run.candidates)
    assert run.pick().scores["fitness"].value == best


def test_the_grid_is_the_papers(finished: Run) -> None:
    two = finished.config.models.model_copy(update={"sources": finished.config.models.sources[:2]})
    pair = finished.config.model_copy(update={"models": two})
    assert grid(finished.config, "ties", fitness_weights(True)).config.search.trials == 15
    assert grid(pair, "dare_ties", fitness_weights(True)).config.search.trials == 9
    assert grid(pair, "slerp", fitness_weights(True)).config.search.trials == 10
    plan = grid(pair, "ties", fitness_weights(True))
    assert plan.first is not None
    recipes = plan.first(open_workbench(plan.config))
    points = {
        (*recipe.weights_at("all"), *recipe.per_source_at("density", "all").values())
        for recipe in recipes
    }
    levels = (0.25, 0.5, 1.0)
    assert points == {(w, w, d, d) for w in levels for d in levels}
    assert all(
        get_method("ties").parse(r.params).model_dump()["normalize"] is False for r in recipes
    )


def test_a_grid_takes_the_best_of_its_points_and_nothing_else(
    finished: Run, tmp_path: Path
) -> None:
    (plan, _) = planned(finished, "grid:slerp").values()
    run = run_search(plan.config, tmp_path / "run", first=plan.first)
    pairs = [candidate.recipe.weights_at("all") for candidate in run.candidates]
    assert [second for _, second in pairs] == pytest.approx([t / 10 for t in range(1, 11)])
    assert all(sum(pair) == pytest.approx(1) for pair in pairs)
    best = max(run.candidates, key=lambda candidate: candidate.scores["fitness"].value)
    assert run.pick() == best
    # The search's own workbench, of three sources, serves it at the end, and does not keep it.
    bench, own = open_workbench(finished.config), open_workbench(plan.config)
    assert "grid_slerp" in measure_run(finished, bench, {"grid_slerp": run}).rows
    assert [merge.method.name for merge in bench.merges] == ["task_arithmetic"]
    served, alone = (dict(one.resident(best.recipe).merged(best.recipe)) for one in (bench, own))
    assert all(torch.equal(served[name], alone[name]) for name in alone)


def test_slerp_is_between_the_expert_and_the_safest_of_the_others(finished: Run) -> None:
    (plan, _) = planned(finished, "evomm:slerp").values()
    safest, expert = plan.config.models.sources
    scores = {finished.config.models.base: finished.baseline.base}
    scores |= {s.path: finished.baseline.sources[s.name] for s in finished.config.models.sources}
    assert expert.path == max(scores, key=lambda path: scores[path]["domain"].value)
    del scores[expert.path]
    assert safest.path == max(scores, key=lambda path: scores[path]["harmless"].value)


def test_lm_cocktail_averages_all_models_by_the_softmax_of_their_likelihoods(
    finished: Run, tmp_path: Path
) -> None:
    plan, without = planned(finished, "lm_cocktail").values()
    assert plan.config.fitness == {"harmless": 1.0, "domain": 1.0}
    assert without.config.fitness == {"domain": 1.0}
    run = run_search(plan.config, tmp_path / "run", first=plan.first)
    (only,) = run.candidates
    models = (run.baseline.base, *run.baseline.sources.values())
    losses = [math.log(scores["fitness"].value) for scores in models]
    shares = torch.tensor(losses, dtype=torch.float64).softmax(0)[1:].tolist()
    assert only.recipe.weights_at("all") == pytest.approx(shares)

    bench = open_workbench(run.config)
    for name, merged in bench.resident(only.recipe).merged(only.recipe):
        models = [bench.inputs.source_tensor(i, name).double() for i in range(len(shares))]
        mean = (1 - sum(shares)) * bench.inputs.base.load(name).double()
        mean = mean + sum(s * model for s, model in zip(shares, models, strict=True))
        torch.testing.assert_close(merged.double(), mean, rtol=1e-5, atol=1e-6)

    hot = lm_cocktail(finished.config, plan.config.fitness, temperature=1e6)
    assert hot.first is not None
    (recipe,) = hot.first(bench)
    assert recipe.weights_at("all") == pytest.approx([1 / 4] * 3, rel=1e-4)


def test_no_random_draw_stands_in_for_a_recipe_that_fails(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plan, _) = planned(finished, "lm_cocktail").values()
    real = Workbench.measure

    def never(self: Workbench, *args: Any, **rest: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Workbench, "measure", never)
    with pytest.raises(SafemergeError, match=r"1 of 1 trials failed.*out of memory"):
        run_search(plan.config, tmp_path / "run", first=plan.first)
    monkeypatch.setattr(Workbench, "measure", real)
    run = run_search(plan.config, tmp_path / "run", first=plan.first)
    (only,) = run.candidates
    assert plan.first is not None
    (recipe,) = plan.first(open_workbench(plan.config))
    assert only.recipe.weights == {"all": recipe.weights["default"]}


def test_recipes_that_come_first_are_enqueued_once(record: dict[str, Any], tmp_path: Path) -> None:
    config = SearchConfig.from_record(
        record | {"search": {"trials": 1, "warm_start": {"steps": 0}}}
    )

    def first(bench: Workbench) -> list[Recipe]:
        return [bench.space.beginning()]

    run_search(config, tmp_path / "run", first=first)
    more = config.search.model_copy(update={"trials": 2})
    run = run_search(config.model_copy(update={"search": more}), tmp_path / "run", first=first)
    weights = [candidate.recipe.weights for candidate in run.candidates]
    assert weights.count(weights[0]) == 1


# ---- asking for them ------------------------------------------------------------------------


def test_names_stand_for_runs_each_once() -> None:
    assert parse_baselines(["evomm", "evomm:ties", "random", "random"]) == (
        *(("evomm", method) for method in METHODS),
        ("random", ""),
    )
    assert parse_baselines(BASELINES)[-1] == ("without_safety", "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("evom", "unknown baseline 'evom'; did you mean evomm"),
        ("evomm:tie", "does not run over 'tie'; did you mean ties"),
        ("evomm:", "does not run over ''; known: dare_ties, slerp, ties"),
        ("random:ties", "random has no method to choose; write --baseline random"),
    ],
)
def test_a_baseline_that_does_not_exist_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_baselines([name])


def test_what_a_baseline_goes_by_must_be_there(
    record: dict[str, Any], probe_file: Path, tmp_path: Path
) -> None:
    some = [probe for probe in ProbeSet.from_jsonl(probe_file) if probe.axis != "harmless"]
    record["probes"]["path"] = str(tmp_path / "some.jsonl")
    ProbeSet(tuple(some)).to_jsonl(record["probes"]["path"])
    record["objectives"] = {"domain": {}, "helpful": {}}
    config = SearchConfig.from_record(record)
    probes = load_probes(config)
    check_baselines([("random", "")], config, probes)
    for name in ("evomm", "grid", "lm_cocktail"):
        with pytest.raises(ConfigError, match=r"some\.jsonl has no search probes of harmless"):
            check_baselines([(name, "ties")], config, probes)
    with pytest.raises(ConfigError, match="without_safety: without harmless this search"):
        check_baselines([("without_safety", "")], config, probes)


def test_a_source_may_not_take_a_baselines_row(record: dict[str, Any]) -> None:
    record["models"]["sources"][0]["name"] = "evomm_ties"
    with pytest.raises(ConfigError, match="'evomm_ties' is used by safemerge; choose another"):
        SearchConfig.from_record(record)
