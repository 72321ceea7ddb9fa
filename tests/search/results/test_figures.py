"""What figures and frames say is what the run says; runs in any state have a figure or none."""

from __future__ import annotations

import json
import random
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from safemerge.errors import BadInput
from safemerge.recipe import Recipe
from search.results import figures
from search.results.heldout_answers import heldout_answers
from search.results.report.decision import decision, pick_gains
from search.results.run import Run
from search.scoring.generation import Answer

pytestmark = pytest.mark.xdist_group("measured")


@pytest.fixture(scope="module")
def run(measured_run: Path) -> Run:
    return Run.load(measured_run)


def tried(
    home: Path, out: Path, count: int, scores: Callable[[int, dict[str, float]], dict[str, float]]
) -> Run:
    """A copy of a run, not over, with invented trials: weights at random, scores by a function of
    the trial's number and its weights `{"GROUP:SOURCE": weight}`."""
    shutil.copytree(home, out)
    for folder in ("trials", "front", "heldout", "validation", "baselines"):
        shutil.rmtree(out / folder)
    plain, rng = Run.load(home).candidates[0], random.Random(0)
    measured = json.loads((home / "trials/00000/scores.json").read_text())
    for number in range(count):
        weights = {
            group: {source: rng.uniform(0.0, 1.5) for source in row}
            for group, row in plain.recipe.weights.items()
        }
        flat = {f"{g}:{s}": w for g, row in weights.items() for s, w in row.items()}
        own = {m: {"value": v, "stderr": 0.05, "n": 100} for m, v in scores(number, flat).items()}
        folder = out / f"trials/{number:05d}"
        folder.mkdir(parents=True)
        recipe = plain.recipe.model_copy(update={"weights": weights})
        (folder / "recipe.json").write_text(recipe.canonical_json())
        (folder / "scores.json").write_text(json.dumps(measured | own))
    return Run.load(out)


def configured(home: Path, **sections: object) -> None:
    """Put sections into the config of a run, in place of its own."""
    file = home / "config.toml"
    record = tomllib.loads(file.read_text(encoding="utf-8")) | sections
    file.write_text(tomli_w.dumps(record), encoding="utf-8")


def test_the_trial_frame_holds_every_score(run: Run) -> None:
    frame = figures.trial_frame(run).set_index("trial")
    assert list(frame.index) == [candidate.number for candidate in run.candidates]
    for candidate in run.candidates:
        for metric, score in candidate.scores.items():
            assert frame.loc[candidate.number, metric] == score.value
            assert frame.loc[candidate.number, f"{metric}_stderr"] == score.stderr
    assert set(frame.index[frame["on_front"]]) == {p.number for p in run.front().points}
    assert list(frame.index[frame["pick"]]) == [run.pick().number]


def test_the_number_frame_holds_the_weights_that_differ(run: Run) -> None:
    frame = figures.number_frame(run)
    for candidate in run.candidates:
        for group, row in candidate.recipe.weights.items():
            for source, weight in row.items():
                assert frame.loc[candidate.number, f"{group}:{source}"] == weight
    assert (frame.nunique() > 1).all()


def test_layers_are_in_the_order_of_depth(run: Run, tmp_path: Path) -> None:
    home = shutil.copytree(run.dir.path, tmp_path / "run")
    file = home / f"trials/{run.pick().number:05d}/recipe.json"
    record = json.loads(file.read_text())
    record["weights"] = {f"layer.{i}": {"safe": 0.1 * i} for i in range(12)}
    file.write_text(Recipe.model_validate(record).canonical_json())
    figure = figures.weight_map(Run.load(home))
    assert list(figure.data[0].y) == [f"layer.{i}" for i in range(12)]
    shown = figures.depth_profiles(Run.load(home))
    (line,) = [t for t in shown.data if t.name.startswith("pick") and max(t.y) > 1]
    assert list(line.x) == list(range(12))
    assert list(line.y) == pytest.approx([0.1 * i for i in range(12)])


def test_the_curve_of_the_hypervolume_ends_at_that_of_the_front(run: Run, tmp_path: Path) -> None:
    rng = random.Random(1)
    some = tried(
        run.dir.path,
        tmp_path / "run",
        30,
        lambda i, w: {"domain": rng.random(), "harmless": rng.random()},
    )
    (curve,) = figures.hypervolume_over_evaluations(some).data
    assert list(curve.y) == sorted(curve.y)
    assert curve.y[-1] == pytest.approx(some.front().hypervolume(), abs=1e-12)
    assert curve.x[-1] == some.evaluations


def test_importance_finds_the_number_that_decides(run: Run, tmp_path: Path) -> None:
    some = tried(
        run.dir.path,
        tmp_path / "run",
        120,
        lambda i, w: {"domain": w["layer.1:safe"] / 2, "harmless": 1 - w["layer.2:domain"] / 2},
    )
    shares = figures.importances(some)
    assert shares["domain"].idxmax() == "layer.1:safe"
    assert shares["harmless"].idxmax() == "layer.2:domain"
    assert shares.sum().to_list() == pytest.approx([1.0, 1.0])
    assert "PED-ANOVA" in figures.parameter_importance(shares).layout.meta["said"]
    assert "layer.1:safe" in figures.slices(some, shares).layout.meta["said"]


def test_of_thousands_of_trials_evenly_many_are_drawn_and_it_is_said(
    run: Run, tmp_path: Path
) -> None:
    rng = random.Random(2)
    some = tried(
        run.dir.path,
        tmp_path / "run",
        1700,
        lambda i, w: {"domain": rng.random(), "harmless": rng.random()},
    )
    drawn = [t for t in figures.search_front(some).data if t.name.startswith("within")]
    assert sum(len(trace.x) for trace in drawn) == 1500
    assert "1500 of" in drawn[0].name


def test_the_front_marks_the_pick_the_sources_and_the_front_without_safety(run: Run) -> None:
    names = [trace.name for trace in figures.search_front(run).data]
    assert {"front", "front without safety", "base", "domain", "safe", "honest"} <= {*names}
    star = figures.search_front(run).data[-1]
    pick = run.pick()
    assert (star.x[0], star.y[0]) == (pick.scores["domain"].value, pick.scores["harmless"].value)
    assert star.name.startswith(f"pick, trial {pick.number}")
    heldout = run.heldout()
    assert heldout is not None
    star = figures.heldout_front(run).data[-1]
    assert star.x[0] == 100 * heldout.rows["search"]["domain"].value
    titles = figures.heldout_front(run).layout
    for axis, metric in ((titles.xaxis, "domain"), (titles.yaxis, "harmless")):
        assert f"(n = {heldout.rows['search'][metric].n})" in axis.title.text


def test_without_a_trial_within_the_limits_there_is_no_front_and_it_is_said(
    run: Run, tmp_path: Path
) -> None:
    home = shutil.copytree(run.dir.path, tmp_path / "run")
    configured(home, limits={"honest": {"at_least": 1.0}})
    some = Run.load(home)
    figure = figures.search_front(some)
    names = [trace.name for trace in figure.data]
    assert "nearest to the limits" in names
    assert "front" not in names
    assert "no front within the limits" in figure.layout.meta["said"]
    assert "stays 0" in figures.hypervolume_over_evaluations(some).layout.meta["said"]


def test_one_objective_is_drawn_over_the_trials_and_three_in_pairs(
    run: Run, tmp_path: Path
) -> None:
    for objectives, panels in ((["domain"], 1), (["domain", "harmless", "helpful"], 3)):
        home = shutil.copytree(run.dir.path, tmp_path / f"run{panels}")
        configured(home, objectives={name: {} for name in objectives})
        some = Run.load(home)
        assert list(some.config.objectives) == objectives
        figure = figures.search_front(some)
        assert len({trace.xaxis for trace in figure.data}) == panels
        assert (figures.search_front_3d(some) is None) == (panels == 1)


def test_gains_are_paired_differences_with_the_sign_of_the_pick(run: Run) -> None:
    answers = heldout_answers(run)
    assert {"base", "search", "search_without_safety", "uniform"} <= answers.keys()
    for row, axes in pick_gains(answers).items():
        for axis, found in axes.items():
            pairs = [
                (a.correct, b.correct)
                for a, b in zip(answers["search"], answers[row], strict=True)
                if a.axis == axis
            ]
            mean = sum(a - b for a, b in pairs) / len(pairs)
            assert found.value == pytest.approx(mean)
            assert found.low <= found.value <= found.high


def graded(correct: list[bool], axis: str = "domain") -> list[Answer]:
    return [Answer(str(i), axis, "r", None, one) for i, one in enumerate(correct)]


def test_the_decision_says_what_is_gained_and_lost_with_intervals(run: Run) -> None:
    answers = {
        "base": graded([False] * 100),
        "domain": graded([True] * 100),
        "safe": graded([True] * 50 + [False] * 50),
        "search": graded([True] * 60 + [False] * 40),
    }
    said = decision(run, answers).sentences
    assert any("Its price: 40.0 points of domain" in s and "the source domain" in s for s in said)
    (base,) = [s for s in said if s.startswith("Against the base")]
    assert base.startswith("Against the base it gains 60.0 points of domain (")
    assert base.endswith("and loses nothing that can be told.")
    (expert,) = [s for s in said if s.startswith("Against the source domain")]
    assert "loses 40.0 points of domain (" in expert
    assert any("price of safety is not known" in s for s in said)


def test_flips_are_the_probes_that_two_models_answer_differently(run: Run) -> None:
    answers = figures.answer_frame(run)
    rows = answers["model"].isin(["search", "base"])
    half = answers["id"].isin(sorted(answers["id"].unique())[::2])
    answers.loc[rows & half & (answers["model"] == "search"), "correct"] = True
    answers.loc[rows & half & (answers["model"] == "base"), "correct"] = False
    found = figures.flips(answers, "search", "base")
    assert set(found.index[found["gained"]]) >= set(answers.loc[half, "id"])
    one, two = (answers[answers["model"] == m].set_index("id") for m in ("search", "base"))
    assert set(found.index) == set(one.index[one["correct"] != two["correct"].reindex(one.index)])
    with pytest.raises(BadInput, match="no held-out answers of 'nobody'; there are: base"):
        figures.flips(answers, "search", "nobody")


def test_categories_count_every_answer(run: Run) -> None:
    answers = figures.answer_frame(run)
    frame = figures.category_frame(answers)
    assert frame["n"].sum() == len(answers)
    assert frame["right"].sum() == answers["correct"].sum()
    assert figures.categories(answers, ["base", "search"], "helpfull") is None
    figure = figures.categories(answers, ["base", "search"], "honest")
    assert all("(n = " in name for name in figure.data[0].y)
    assert list(figure.data[0].x) == ["base", "the pick"]
