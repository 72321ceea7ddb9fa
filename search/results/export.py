"""Write a chosen trial as an ordinary Hugging Face checkpoint with a card of measured numbers."""

from __future__ import annotations

from pathlib import Path

from safemerge.atomic import replacing
from safemerge.cache import tensor_store
from safemerge.errors import RecipeError, RunError
from safemerge.inputs import open_inputs
from safemerge.io import CardRecord, ScoreRow, SourceRecord
from safemerge.mergekit import to_mergekit
from safemerge.merging import MergeOptions, merge
from safemerge.recipe import ModelRef
from safemerge.score import Score
from search.progress import Report, silent
from search.results.damage import trial_damage
from search.results.run import Run


def export(run: Run, number: int, out: str | Path, report: Report = silent) -> str:
    """Merge a trial's recipe to disk, with a `mergekit.yml` where mergekit can do the same merge.

    Returns:
        The recipe's hash.

    Raises:
        BadInput: no such trial, inputs that have changed, an output folder that is not empty.
    """
    recipe, scores = run.dir.trial_recipe(number), run.dir.trial_scores(number)
    if scores is None:
        raise RunError(
            f"trial {number} of {run.dir.path} did not finish (see its error.txt), so nothing is "
            "known of it; export another"
        )
    pinned = run.dir.require("lock.json", dict)["inputs"]

    def pin(model: ModelRef) -> ModelRef:
        return model.model_copy(update={"content": pinned[model.name]})

    # The content hashes make merge() refuse inputs that are not those of the search.
    sources = tuple(pin(source) for source in recipe.sources)
    recipe = recipe.model_copy(update={"base": pin(recipe.base), "sources": sources})
    inputs = open_inputs(recipe)
    rows, notes = _measured(run, number, scores)
    if run.config.merge.dtype is not None:
        notes.append(
            f"The scores are those of the merge in the base's dtype; this file is written in "
            f"{run.config.merge.dtype}."
        )
    damage = trial_damage(run, number)
    if damage is not None:
        notes.append(f"Retention, on general prompts: {damage}.")
    mergekit = None
    try:
        mergekit = to_mergekit(recipe, inputs)
    except RecipeError as reason:
        notes.append(f"This merge has no mergekit.yml: {reason}.")
    card = CardRecord(
        title=Path(out).resolve().name,
        base=recipe.base.path,
        sources=tuple(
            SourceRecord(name=ref.name, path=ref.path, content=pinned[ref.name])
            for ref in inputs.refs
        ),
        method=recipe.method,
        recipe_json=recipe.canonical_json(),
        rows=tuple(ScoreRow(name=name.replace("_", " "), scores=row) for name, row in rows.items()),
        notes=tuple(notes),
    )
    digest = merge(
        recipe,
        out,
        options=MergeOptions(store=tensor_store()),
        card=card,
        progress=lambda name, done, total: report("export", done, total, name),
    )
    if mergekit is not None:
        with replacing(Path(out) / "mergekit.yml") as file:
            file.write(mergekit)
    return digest


def _measured(
    run: Run, number: int, scores: dict[str, Score]
) -> tuple[dict[str, dict[str, Score]], list[str]]:
    """Rows of scores, that of the trial first, and sentences on what they are."""
    name = f"this model (trial {number})"
    heldout = run.heldout()
    if heldout is not None and number in heldout.front:
        others = {row: scores for row, scores in heldout.rows.items() if row != "search"}
        rows = {name: heldout.front[number], **others}
        measured = (
            "Scores are measured on held-out probes by greedy generation and the judge "
            f"{heldout.judge}."
        )
    else:
        rows = {name: scores, "base": dict(run.baseline.base)}
        measured = (
            "Scores are likelihoods on the search probes, which the search optimised; this trial "
            "was not measured on held-out probes."
        )
    missed = [
        f"{metric} {scores[metric].value:.3f} against {run.config.limits[metric].text}"
        for metric, by in run.limits.violations(scores).items()
        if by > 0.0
    ]
    if not missed:
        return rows, [measured]
    return rows, [measured, f"This trial is outside the limits of its search: {'; '.join(missed)}."]
