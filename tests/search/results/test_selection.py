"""The pick: who is near the front, who may be picked, and that no model answers twice."""

import json
from pathlib import Path
from typing import Any

import pytest

from safemerge import ModelRef, Recipe
from safemerge.score import Score, mean_score
from search.config import SearchConfig
from search.metrics import RETENTION, Limit, ReferenceScores
from search.results.answers import ValidationScores, answer
from search.results.general_answers import validation_asker, with_general
from search.results.pareto import Candidate, Front, thinned
from search.results.run import Run
from search.results.selection import Likelihoods, choose
from search.runs.retention import read_answers
from search.runs.workbench import open_workbench
from search.scoring.generation import Answer, answer_scores, answer_values
from search.scoring.retention import general_scores
from search.study.study import run_search
from synth.engines.transformers import TransformersEngine
from synth.grading import JUDGED
from synth.judges import PhraseJudge
from synth.probes.jsonl import read_jsonl
from synth.progress import silent
from synth.text.degenerate import is_broken

BOTH = {"domain": True, "harmless": True}


def scores(domain: float, harmless: float, stderr: float = 0.05, **more: float) -> dict[str, Score]:
    values = {"domain": domain, "harmless": harmless, **more}
    return {metric: Score(value, stderr, 25) for metric, value in values.items()}


def candidate(number: int, domain: float, harmless: float, violation: float = 0.0) -> Candidate:
    recipe = Recipe(
        base=ModelRef(name="base", path="base"),
        sources=(ModelRef(name="a", path="a"),),
        method="linear",
        weights={"default": {"a": float(number)}},
    )
    return Candidate(number, recipe, scores(domain, harmless), violation)


def numbers(front: Front) -> list[int]:
    return [point.number for point in front.points]


CANDIDATES = [
    candidate(0, 0.9, 0.5),
    candidate(1, 0.5, 0.9),
    candidate(2, 0.87, 0.3),  # 0.6 errors behind 0 in domain: near
    candidate(3, 0.5, 0.9),  # the scores of 1 once more
    candidate(4, 0.84, 0.4),  # 1.2 errors behind 0 in domain, 2 in harmless: not near
    candidate(5, 0.9, 0.49),  # level with 0 in domain: nearest of all
    candidate(6, 0.9, 0.45),  # as near
    candidate(7, 0.95, 0.95, violation=0.1),
]


def test_near_the_front_is_what_no_point_is_ahead_of_by_more_than_one_error() -> None:
    front = Front.of(CANDIDATES, BOTH)
    assert numbers(front) == [0, 1]
    assert numbers(front.with_near(CANDIDATES, 16)) == [0, 5, 6, 2, 1]
    assert numbers(front.with_near(CANDIDATES, 3)) == [0, 5, 1]
    assert numbers(front.with_near(CANDIDATES, 1)) == [0]


def test_where_nobody_is_feasible_those_that_break_the_limits_least_are_near() -> None:
    tried = [candidate(i, 0.1 * i, 0.5, violation=by) for i, by in enumerate((0.3, 0.1, 0.2, 0.4))]
    front = Front.of(tried, BOTH)
    assert numbers(front) == [1]
    assert numbers(front.with_near(tried, 3)) == [2, 1, 0]
    assert numbers(front.with_near(tried, 16)) == [3, 2, 1, 0]
    assert numbers(front.with_near([*tried, candidate(4, 0.0, 0.0)], 1)) == [1]


def test_a_thinned_front_keeps_its_ends_and_the_one_that_is_asked_for() -> None:
    points = tuple(candidate(i, 1 - 0.1 * i, 0.1 * i) for i in range(10))
    assert [p.number for p in thinned(points, 4)] == [0, 3, 6, 9]
    assert [p.number for p in thinned(points, 4, points[7])] == [0, 4, 7, 9]
    assert thinned(points, 10) == points


def limited(record: dict[str, Any], limits: dict[str, Any]) -> dict[str, Limit]:
    return SearchConfig.from_record(record | {"limits": limits}).limits


def likely(*trials: dict[str, list[float]]) -> dict[int, Likelihoods]:
    """By likelihood, `{metric: values by probe}` of each trial."""
    return {
        i: Likelihoods({metric: mean_score(row) for metric, row in trial.items()}, trial)
        for i, trial in enumerate(trials)
    }


def said(*trials: list[Answer]) -> ValidationScores:
    base = ReferenceScores(scores(0.5, 0.5, honest=0.5), {})
    return ValidationScores(
        base,
        {i: answer_scores(trial) for i, trial in enumerate(trials)},
        {i: answer_values(trial) for i, trial in enumerate(trials)},
    )


def answers(*right: int, of: int) -> list[Answer]:
    """These domain questions answered right, and all that is harmful refused."""
    domain = [Answer(str(i), "domain", "", None, i in right) for i in range(of)]
    return [*domain, *(Answer(f"h{i}", "harmless", "", None, True) for i in range(of))]


def test_each_step_of_the_rule_leaves_what_it_cannot_tell_apart(record: dict[str, Any]) -> None:
    tried = Front(tuple(candidate(i, 0.8, 0.8 - 0.01 * i) for i in range(4)), BOTH)
    plain = limited(record, {})
    assert choose(tried, None, {}, plain) == 0  # the minimax regret of the search scores
    most = [answers(*range(n), of=40) for n in (10, 12, 11, 30)]
    assert choose(tried, said(*most), {}, plain) == 3
    close = [answers(*range(n), of=40) for n in (10, 29, 11, 30)]
    assert choose(tried, said(*close), {}, plain) == 1  # one question of 40 behind 3
    flat = [{"domain": [0.1 * i] * 40, "harmless": [0.5] * 40} for i in (1, 2, 3, 9)]
    assert choose(tried, said(*close), likely(*flat), plain) == 3  # of 1 and 3 the likelier one


def test_the_error_is_that_of_the_difference_on_the_same_probes(record: dict[str, Any]) -> None:
    """Five questions behind: of 40, all of them the same, or with as many won elsewhere."""
    tried = Front((candidate(0, 0.8, 0.8), candidate(1, 0.8, 0.9)), BOTH)
    plain = limited(record, {})
    best = answers(*range(25), of=40)
    less = answers(*range(20), of=40)
    assert choose(tried, said(best, less), {}, plain) == 0
    others = answers(*range(20, 40), of=40)  # as many right, most of them others
    assert choose(tried, said(best, others), {}, plain) == 1


@pytest.mark.parametrize("n", [1, 2, 5, 14])
def test_one_right_answer_more_never_decides(n: int, record: dict[str, Any]) -> None:
    tried = Front((candidate(0, 0.8, 0.8), candidate(1, 0.8, 0.9)), BOTH)
    more, less = answers(*range(n), of=n), answers(*range(n - 1), of=n)
    assert choose(tried, said(more, less), {}, limited(record, {})) == 1


def test_equal_likelihoods_on_few_probes_are_not_certain(record: dict[str, Any]) -> None:
    tried = Front((candidate(0, 0.8, 0.8), candidate(1, 0.8, 0.9)), BOTH)

    def pick(n: int) -> int:
        rows = ({"domain": [value] * n, "harmless": [0.5] * n} for value in (0.6, 0.5))
        return choose(tried, None, likely(*rows), limited(record, {}))

    assert [pick(n) for n in (1, 2, 10, 100)] == [1, 1, 1, 0]


def test_one_right_answer_more_of_fourteen_does_not_outweigh_what_is_likely(
    record: dict[str, Any],
) -> None:
    tried = Front((candidate(0, 0.97, 0.82), candidate(1, 0.93, 0.99)), BOTH)
    rows = likely(
        {"domain": [0.98] * 60, "harmless": [0.6] * 60},
        {"domain": [0.91] * 60, "harmless": [0.99] * 60},
    )
    plain = limited(record, {})
    close = said(answers(*range(14), of=14), answers(*range(13), of=14))
    assert choose(tried, close, rows, plain) == 1
    far = said(answers(*range(14), of=14), answers(*range(7), of=14))
    assert choose(tried, far, rows, plain) == 0


def test_objectives_on_the_same_probes_are_told_apart_together(record: dict[str, Any]) -> None:
    """What helpful loses over_refusal wins on the same probe, so the sum is the same on each."""
    directions = {"helpful": True, "over_refusal": False}
    tried = Front((candidate(0, 0.8, 0.8), candidate(1, 0.8, 0.8)), directions)
    for one in tried.points:
        one.scores.update({"helpful": Score(0.5, 0.05, 25), "over_refusal": Score(0.5, 0.05, 25)})
    draws = [0.1, 0.9] * 30
    first = {"helpful": draws, "over_refusal": draws}
    second = {"helpful": [0.3] * 60, "over_refusal": [0.4] * 60}  # the sum is 0.1 less on each
    plain = limited(record, {})
    assert choose(tried, None, likely(second, first), plain) == 1
    apart = {"helpful": draws, "over_refusal": [*draws[1:], draws[0]]}  # and here it varies
    assert choose(tried, None, likely(second, apart), plain) == 0


def test_a_limit_counts_as_broken_by_more_than_one_error_of_the_answers(
    record: dict[str, Any],
) -> None:
    tried = Front(tuple(candidate(i, 0.8, 0.8 - 0.01 * i) for i in range(3)), BOTH)
    limits = limited(record, {"honest": {"at_least": "base"}, "over_refusal": {"at_most": 0.5}})
    base = scores(0.5, 0.5, honest=0.8)

    def pick(*honest: float) -> int:
        trials = {i: scores(0.8, 0.8, honest=value) for i, value in enumerate(honest)}
        return choose(tried, ValidationScores(ReferenceScores(base, {}), trials), {}, limits)

    assert pick(0.76, 0.9, 0.9) == 0
    assert pick(0.74, 0.9, 0.9) == 1
    assert pick(0.1, 0.2, 0.3) == 2  # nobody is within the limits: the nearest stays
    assert pick(0.1, 0.3, 0.3) == 1


def test_answers_are_kept_with_their_trial_and_none_is_asked_for_twice(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_search(config, tmp_path / "run")
    points = run.dir.read("front/search.json")["points"]
    files = [tmp_path / "run" / f"validation/trial-{p['trial']:05d}.jsonl" for p in points]
    for point, file in zip(points, files, strict=True):
        kept = [Answer(**json.loads(line)) for line in file.read_text().splitlines()]
        general = read_answers(run.dir, f"validation/general/{file.name}")
        assert general is not None
        scores = answer_scores(kept) | general_scores(general)
        assert {m: s.value for m, s in scores.items()} == {
            metric: score["value"] for metric, score in point["answered"].items()
        }
    answering: list[int] = []
    judging: list[int] = []
    chat, judge = TransformersEngine.chat, PhraseJudge.judge

    def answers(self: TransformersEngine, prompts: Any, **settings: Any) -> Any:
        answering.append(len(prompts))
        return chat(self, prompts, **settings)

    def judges(self: PhraseJudge, prompts: Any, replies: Any) -> Any:
        judging.append(len(prompts))
        return judge(self, prompts, replies)

    monkeypatch.setattr(TransformersEngine, "chat", answers)
    monkeypatch.setattr(PhraseJudge, "judge", judges)
    assert run_search(config, tmp_path / "run").pick() == run.pick()
    assert answering == judging == []
    lost = [row for _, row in read_jsonl(files[0])]
    files[0].unlink()  # as a kill would have left it
    run_search(config, tmp_path / "run")
    assert answering == [len(lost)]
    # Strings show what is broken, and no judge is asked about it.
    readable = [row for row in lost if row["axis"] in JUDGED and not is_broken(row["reply"])]
    assert judging == [len(readable)]


def test_general_answers_leave_what_is_known_probe_by_probe(
    config: SearchConfig, tmp_path: Path
) -> None:
    """The pick takes the error of paired differences from it."""
    run, bench = run_search(config, tmp_path / "run"), open_workbench(config)
    numbers = {p["trial"] for p in run.dir.read("front/search.json")["points"]}
    trials = [trial for trial in run.candidates if trial.number in numbers]
    answered = answer(run.dir, bench, trials, max_tokens=8, report=silent)
    asker = validation_asker(run.dir, bench, 8)
    both = with_general(answered, trials, asker, run.baseline)
    assert both.values == answered.values
    assert both.values.keys() == numbers
    for number, scores in both.trials.items():
        assert scores.keys() - answered.trials[number].keys() == set(RETENTION)


def test_nothing_is_asked_where_answers_are_turned_off(
    record: dict[str, Any], tmp_path: Path
) -> None:
    record["search"] |= {"answered": 0, "calibrate": 0}
    run = run_search(SearchConfig.from_record(record), tmp_path / "run")
    asked = {str(file.relative_to(run.dir.path)) for file in run.dir.path.glob("**/*.jsonl")}
    models = ["base", *(f"source-{i}" for i in range(len(record["models"]["sources"])))]
    assert asked == {f"general/{name}.jsonl" for name in models}  # of the start, and of no trial
    assert Run.load(run.dir.path).pick() in run.front().points
