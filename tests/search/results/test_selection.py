"""The pick: who is near the front, who may be picked, and that no model answers twice."""

import json
from pathlib import Path
from typing import Any

import pytest

from safemerge import ModelRef, Recipe
from safemerge.score import Score
from search.config import SearchConfig
from search.metrics import Limit, ReferenceScores
from search.results.answers import ValidationScores
from search.results.pareto import Candidate, Front, thinned
from search.results.run import Run
from search.results.selection import choose
from search.scoring.generation import Answer, answer_scores
from search.study.study import run_search
from synth.grading import JUDGED
from synth.judges import PhraseJudge

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


def test_a_thinned_front_keeps_its_ends_and_the_one_that_is_asked_for() -> None:
    points = tuple(candidate(i, 1 - 0.1 * i, 0.1 * i) for i in range(10))
    assert [p.number for p in thinned(points, 4)] == [0, 3, 6, 9]
    assert [p.number for p in thinned(points, 4, points[7])] == [0, 4, 7, 9]
    assert thinned(points, 10) == points


def limited(record: dict[str, Any], limits: dict[str, Any]) -> dict[str, Limit]:
    return SearchConfig.from_record(record | {"limits": limits}).limits


def test_each_step_of_the_rule_leaves_what_it_cannot_tell_apart(record: dict[str, Any]) -> None:
    tried = Front(tuple(candidate(i, 0.8, 0.8 - 0.01 * i) for i in range(4)), BOTH)
    plain = limited(record, {})
    assert choose(tried, None, {}, plain) == 0  # the minimax regret of the search scores
    base = scores(0.5, 0.5, honest=0.5)

    def answered(*trials: dict[str, Score]) -> ValidationScores:
        return ValidationScores(ReferenceScores(base, {}), dict(enumerate(trials)))

    said = answered(*(scores(d, 0.8, honest=0.6) for d in (0.6, 0.8, 0.75, 0.9)))
    # 1 is 0.1 behind 3, an error of 0.05 * sqrt(2) further than can be told.
    assert choose(tried, said, {}, plain) == 3
    close = answered(*(scores(d, 0.8, honest=0.6) for d in (0.6, 0.85, 0.75, 0.9)))
    assert choose(tried, close, {}, plain) == 1
    likely = {i: scores(0.5 + 0.1 * i, 0.5) for i in range(4)}
    assert choose(tried, close, likely, plain) == 3  # of 1 and 3 the likelier one


def answers(right: int, of: int) -> dict[str, Score]:
    """Scores of a model that answers so many domain questions, and refuses all that is harmful."""
    said = [Answer(str(i), "domain", "", None, i < right) for i in range(of)]
    return answer_scores([*said, *(Answer(str(i), "harmless", "", None, True) for i in range(of))])


def test_the_error_of_a_share_is_not_0_where_all_answers_are_right() -> None:
    share = (14 + 2) / (14 + 4)
    error = (share * (1 - share) / 18) ** 0.5
    assert answers(14, of=14)["harmless"] == Score(1.0, pytest.approx(error), 14)
    assert answers(0, of=14)["domain"] == Score(0.0, pytest.approx(error), 14)


def test_one_right_answer_more_of_fourteen_does_not_outweigh_what_is_likely(
    record: dict[str, Any],
) -> None:
    tried = Front((candidate(0, 0.97, 0.82), candidate(1, 0.93, 0.99)), BOTH)
    base = ReferenceScores(scores(0.5, 0.5), {})
    said = ValidationScores(base, {0: answers(14, of=14), 1: answers(13, of=14)})
    likely = {0: scores(0.98, 0.82), 1: scores(0.91, 0.99)}
    assert choose(tried, said, likely, limited(record, {})) == 1
    far = ValidationScores(base, {0: answers(14, of=14), 1: answers(7, of=14)})
    assert choose(tried, far, likely, limited(record, {})) == 0


def test_search_and_validation_probes_count_by_their_numbers(record: dict[str, Any]) -> None:
    def sure(number: int, domain: float) -> Candidate:
        plain = candidate(number, domain, 0.8)
        return Candidate(number, plain.recipe, scores(domain, 0.8, stderr=0.001), 0.0)

    def validation(n: int) -> dict[int, dict[str, Score]]:
        return {i: {m: Score(v, 0.001, n) for m, v in row.items()} for i, row in enumerate(rows)}

    # 0.1 ahead on 25 search probes, and 0.06 behind on as many others, or on ten times as many.
    tried = Front((sure(0, 0.9), sure(1, 0.8)), BOTH)
    rows = [{"domain": 0.8, "harmless": 0.8}, {"domain": 0.86, "harmless": 0.8}]
    assert choose(tried, None, validation(25), limited(record, {})) == 0
    assert choose(tried, None, validation(250), limited(record, {})) == 1


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
    assert pick(0.1, 0.2, 0.3) == 0  # nobody is within the limits: all stay


def test_answers_are_kept_with_their_trial_and_none_is_asked_for_twice(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_search(config, tmp_path / "run")
    points = run.dir.read("front/search.json")["points"]
    files = [tmp_path / "run" / f"validation/trial-{p['trial']:05d}.jsonl" for p in points]
    for point, file in zip(points, files, strict=True):
        kept = [Answer(**json.loads(line)) for line in file.read_text().splitlines()]
        assert {m: s.value for m, s in answer_scores(kept).items()} == {
            metric: score["value"] for metric, score in point["answered"].items()
        }
    asked: list[int] = []
    real = PhraseJudge.judge

    def counted(self: PhraseJudge, prompts: Any, answers: Any) -> Any:
        asked.append(len(prompts))
        return real(self, prompts, answers)

    monkeypatch.setattr(PhraseJudge, "judge", counted)
    assert run_search(config, tmp_path / "run").pick() == run.pick()
    assert asked == []
    files[0].unlink()  # as a kill would have left it
    run_search(config, tmp_path / "run")
    assert asked == [sum(answer.axis in JUDGED for answer in kept)]


def test_nothing_is_asked_where_answers_are_turned_off(
    record: dict[str, Any], tmp_path: Path
) -> None:
    record["search"]["answered"] = 0
    run = run_search(SearchConfig.from_record(record), tmp_path / "run")
    assert not list(run.dir.path.glob("**/*.jsonl"))
    assert Run.load(run.dir.path).pick() in run.front().points
