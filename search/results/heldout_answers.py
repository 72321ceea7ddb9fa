"""The graded replies behind a held-out table: which file of the run holds whose."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from safemerge.recipe import Recipe
from search.results.answers import read_answers
from search.results.run import Run
from search.runs.rundir import RunDir
from search.scoring.generation import Answer

FOLDER = "heldout"  # of a run, for the answers


def baseline_file(name: str, recipe: Recipe) -> str:
    """File of a baseline's pick.

    By content: a baseline that was deleted and run again may number its trials otherwise.
    """
    return f"{name}-{hashlib.sha256(recipe.canonical_json().encode()).hexdigest()[:12]}.jsonl"


def heldout_answers(run: Run) -> dict[str, list[Answer]]:
    """`{row: answers}` of the held-out table, and `trial N` of the front's points, as far as kept.

    The pick is "search". Empty where nothing was measured.
    """
    heldout = run.heldout()
    if heldout is None:
        return {}
    found = {}
    for row, file in _files(run, heldout.rows, heldout.front).items():
        if (answers := read_answers(run.dir, f"{FOLDER}/{file}")) is not None:
            found[row] = answers
    return found


def baseline_runs(run: Run) -> dict[str, RunDir]:
    """`{row: run folder}` of the baselines that lie in a run."""
    folders = sorted((run.dir.path / "baselines").glob("*/config.toml"))
    return {file.parent.name: RunDir(file.parent) for file in folders}


def _files(run: Run, rows: Iterable[str], trials: Iterable[int]) -> dict[str, str]:
    """`{row: file}`, in the order of the table."""
    sources = [source.name for source in run.config.models.sources]
    baselines = baseline_runs(run)
    files = {}
    for row in rows:
        if row == "search":
            files[row] = _trial_file(run.pick().number)
        elif row in sources:
            files[row] = f"source-{sources.index(row)}.jsonl"
        elif row in baselines:
            pick = Run.load(baselines[row].path).pick()
            files[row] = baseline_file(row, pick.recipe)
        else:
            files[row] = f"{row}.jsonl"
    return {**files, **{f"trial {number}": _trial_file(number) for number in trials}}


def _trial_file(number: int) -> str:
    return f"trial-{number:05d}.jsonl"
