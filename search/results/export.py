"""Write a chosen trial as an ordinary Hugging Face checkpoint with a card of measured numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from safemerge.atomic import replacing
from safemerge.cache import tensor_store
from safemerge.errors import RecipeError, RunError
from safemerge.inputs import open_inputs
from safemerge.io import CardRecord, ScoreRow, SourceRecord
from safemerge.mergekit import to_mergekit
from safemerge.merging import MergeOptions, merge
from search.results.run import Run


def export(
    run: Run,
    number: int,
    out: str | Path,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> str:
    """Merge a trial's recipe to disk, with a `mergekit.yml` where mergekit can do the same merge.

    Returns:
        The recipe's hash.

    Raises:
        BadInput: no such trial, inputs that have changed, an output folder that is not empty.
    """
    recipe = run.dir.trial_recipe(number)
    if run.dir.trial_scores(number) is None:
        raise RunError(
            f"trial {number} of {run.dir.path} did not finish (see its error.txt), so nothing is "
            "known of it; export another"
        )
    pinned = run.dir.require("lock.json", made_by="safemerge search CONFIG")["inputs"]
    # The content hashes make merge() refuse inputs that are not those of the search.
    recipe = recipe.model_copy(
        update={
            "base": recipe.base.model_copy(update={"content": pinned[recipe.base.name]}),
            "sources": tuple(
                source.model_copy(update={"content": pinned[source.name]})
                for source in recipe.sources
            ),
        }
    )
    inputs = open_inputs(recipe)
    notes = _notes(run, number)
    mergekit = None
    try:
        mergekit = to_mergekit(recipe, inputs)
    except RecipeError as reason:
        notes += (f"This merge has no mergekit.yml: {reason}.",)
    card = CardRecord(
        title=Path(out).resolve().name,
        base=recipe.base.path,
        sources=tuple(
            SourceRecord(name=ref.name, path=ref.path, content=pinned[ref.name])
            for ref in inputs.refs
        ),
        method=recipe.method,
        recipe_json=recipe.canonical_json(),
        rows=_rows(run, number),
        notes=notes,
    )
    digest = merge(
        recipe, out, options=MergeOptions(store=tensor_store()), card=card, progress=progress
    )
    if mergekit is not None:
        with replacing(Path(out) / "mergekit.yml") as file:
            file.write(mergekit)
    return digest


def _rows(run: Run, number: int) -> tuple[ScoreRow, ...]:
    """This model first, then what it is compared with; held-out where that was measured."""
    name = f"this model (trial {number})"
    heldout = run.heldout()
    if heldout is not None and number in heldout.front:
        others = {row: scores for row, scores in heldout.rows.items() if row != "search"}
        rows = {name: heldout.front[number], **others}
    else:
        rows = {
            name: run.dir.trial_scores(number) or {},
            "base": dict(run.baseline.base),
        }
    return tuple(
        ScoreRow(name=row.replace("_", " "), scores=scores) for row, scores in rows.items()
    )


def _notes(run: Run, number: int) -> tuple[str, ...]:
    notes = _measured_on(run, number) + _limits_missed(run, number)
    if run.config.merge.dtype is not None:
        notes += (
            f"The scores are those of the merge in the base's dtype; this file is written in "
            f"{run.config.merge.dtype}.",
        )
    return notes


def _limits_missed(run: Run, number: int) -> tuple[str, ...]:
    """A sentence where the trial broke a limit of its search on the search probes."""
    scores = run.dir.trial_scores(number) or {}
    missed = [
        f"{metric} {scores[metric].value:.3f} against {run.config.limits[metric].text}"
        for metric, by in run.limits.violations(scores).items()
        if by > 0.0
    ]
    if not missed:
        return ()
    return (f"This trial is outside the limits of its search: {'; '.join(missed)}.",)


def _measured_on(run: Run, number: int) -> tuple[str, ...]:
    heldout = run.heldout()
    if heldout is not None and number in heldout.front:
        return (
            "Scores are measured on held-out probes by greedy generation and the judge "
            f"{heldout.judge}.",
        )
    return (
        "Scores are likelihoods on the search probes, which the search optimised; this trial was "
        "not measured on held-out probes.",
    )
