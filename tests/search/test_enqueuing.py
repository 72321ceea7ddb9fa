"""A search that starts from another run: what is tried first, what is kept, what is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from safemerge.errors import RunError
from search.baselines.ablations import random_search, without_safety
from search.config import SearchConfig
from search.descent import Descent
from search.run import Run
from search.study import run_search


@pytest.fixture
def coarse(record: dict[str, Any], tmp_path: Path) -> Run:
    """Few numbers: a finished run with one weight for each source."""
    config = record | {"space": {"places": "global", "rank_places": "global"}}
    return run_search(SearchConfig.from_record(config), tmp_path / "coarse")


def finer(record: dict[str, Any], coarse: Run, **search: Any) -> SearchConfig:
    own = record["search"] | {"start_from": str(coarse.dir.path), **search}
    return SearchConfig.from_record(record | {"search": own})


def test_pick_and_front_of_the_other_run_are_tried_first(
    record: dict[str, Any], coarse: Run, tmp_path: Path
) -> None:
    run = run_search(finer(record, coarse, trials=12), tmp_path / "fine")
    first = run.candidates[0].recipe
    own = coarse.pick().recipe
    assert len(first.weights) > 1
    for group in first.weights:
        assert first.weights_at(group) == pytest.approx(own.weights_at("all"))
    front = {c.number for c in coarse.front().points} | {coarse.pick().number}
    even = [len({tuple(c.recipe.weights_at(g)) for g in first.weights}) for c in run.candidates]
    assert even[: min(3, len(front))] == [1] * min(3, len(front))
    assert max(even[3:]) > 1, "at most a quarter of the trials is the other run's"


def test_the_warm_start_sets_out_from_the_pick(
    record: dict[str, Any], coarse: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[torch.Tensor] = []
    measure = Descent._measure

    def noted(self: Descent, knots: torch.Tensor) -> dict[str, Any]:
        made.append(knots)
        return measure(self, knots)

    monkeypatch.setattr(Descent, "_measure", noted)
    steps = {"steps": 1, "ring": 1}
    run_search(finer(record, coarse, trials=1, warm_start=steps), tmp_path / "fine")
    wanted = torch.tensor(coarse.pick().recipe.weights_at("all"))
    knots = made[0].view(-1, len(wanted))
    torch.testing.assert_close(knots, wanted.expand_as(knots))


def test_it_goes_on_when_the_other_run_is_gone(
    record: dict[str, Any], coarse: Run, tmp_path: Path
) -> None:
    first = run_search(finer(record, coarse, trials=2), tmp_path / "fine")
    shutil.rmtree(coarse.dir.path)
    more = run_search(finer(record, coarse, trials=4), tmp_path / "fine")
    assert more.candidates[:2] == first.candidates
    assert len(more.candidates) == 4


def test_what_cannot_be_started_from_is_refused(
    record: dict[str, Any], coarse: Run, tmp_path: Path
) -> None:
    def refused(config: SearchConfig, message: str) -> None:
        with pytest.raises(RunError, match=message):
            run_search(config, tmp_path / "fine")
        assert not (tmp_path / "fine").exists()

    sources = {**record["models"], "sources": record["models"]["sources"][:2]}
    refused(
        finer(record | {"models": sources}, coarse), r"start_from = .*coarse: the recipe merges"
    )
    refused(
        finer(record | {"merge": {"method": "tsvm"}}, coarse), "method is 'resm', and this search"
    )
    shutil.rmtree(coarse.dir.path / "trials")
    refused(finer(record, coarse), "search.start_from: .*coarse has no finished trial yet")
    shutil.rmtree(coarse.dir.path)
    refused(finer(record, coarse), "search.start_from: .*coarse is not a run directory")


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
