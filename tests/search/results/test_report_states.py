"""A report of a run in any state says what is there and what is not, and is never a traceback."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from safemerge.errors import RunError
from search.results.report import page, write_report
from search.results.run import Run

pytestmark = pytest.mark.xdist_group("measured")


@pytest.fixture
def home(measured_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(measured_run, tmp_path / "run")


def read(home: Path) -> str:
    """The text of a report's page, scripts left out."""
    html = page(Run.load(home))
    assert len(html.encode()) < 6_000_000
    shown = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", shown).split())


def test_a_measured_run_says_pick_price_judge_probes_and_words(home: Path) -> None:
    run, text = Run.load(home), read(home)
    assert f"The pick is trial {run.pick().number}: domain, safe and honest merged by resm" in text
    for words in (
        "Right on held-out probes:",
        "Against the base",
        "Against the source safe",
        "Against the search without safety",
        "The judge was phrases",
        "Probes by axis and split",
        "harmful prompts that are refused",
    ):
        assert words in text
    assert str(home) not in text  # it can be mailed
    assert str(Path(run.config.models.base).parent) not in text


def test_a_run_that_is_not_over_says_so(home: Path) -> None:
    shutil.rmtree(home / "front")
    text = read(home)
    assert "The search is not over (20 of 20 trials)" in text
    assert "not measured on held-out probes yet" in text


def test_a_run_without_a_finished_trial_has_nothing_to_decide(home: Path) -> None:
    shutil.rmtree(home / "front")
    shutil.rmtree(home / "trials")
    assert "No trial of 20 has finished yet: nothing to decide." in read(home)
    (home / "trials/00000").mkdir(parents=True)
    (home / "trials/00000/error.txt").write_text("EngineError: it <b>went</b> down\n")
    text = read(home)
    assert "1 of 1 trials failed: 1 with EngineError: it &lt;b&gt;went&lt;/b&gt; down" in text
    assert str(home) not in text


def test_without_its_probes_a_report_leaves_categories_and_answers_out(home: Path) -> None:
    config = home / "config.toml"
    probes = Run.load(home).config.probes.path
    config.write_text(config.read_text().replace(probes, str(home / "gone.jsonl")))
    text = read(home)
    assert "Categories and answers are left out" in text
    assert "Against the base" in text  # counted from the answers that the run keeps


def test_a_folder_that_is_no_run_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        write_report(Run.load(tmp_path), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_the_same_run_gives_the_same_page(home: Path) -> None:
    assert page(Run.load(home)) == page(Run.load(home))


def test_a_model_whose_answers_are_gone_is_left_out(home: Path) -> None:
    (home / "heldout/base.jsonl").unlink()
    text = read(home)
    assert "Against the source safe" in text
    assert "Against the base" not in text
