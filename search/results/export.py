"""Write a chosen trial as an ordinary Hugging Face checkpoint with a card of measured numbers."""

from __future__ import annotations

from pathlib import Path

from safemerge.atomic import replacing
from safemerge.cache import tensor_store
from safemerge.errors import RecipeError, RunError
from safemerge.inputs import open_inputs
from safemerge.io import CardRecord, ScoreRow, SourceRecord, check_output
from safemerge.mergekit import to_mergekit
from safemerge.merging import MergeOptions, merge
from safemerge.recipe import ModelRef
from safemerge.score import Score
from search.metrics import MEANING, Limits, ReferenceScores
from search.results.damage import trial_damage
from search.results.run import Run
from search.results.standing import against, standing
from search.results.summary import shown_judge
from synth.progress import Report, silent


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
    check_output(Path(out))
    pinned = run.dir.require("lock.json", dict)["inputs"]

    def pin(model: ModelRef) -> ModelRef:
        return model.model_copy(update={"content": pinned[model.name]})

    # The content hashes make merge() refuse inputs that are not those of the search.
    sources = tuple(pin(source) for source in recipe.sources)
    recipe = recipe.model_copy(update={"base": pin(recipe.base), "sources": sources})
    inputs = open_inputs(recipe)
    heldout = run.heldout()
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
        meanings=MEANING,
        unit="likelihood" if heldout is None or number not in heldout.front else "rate",
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


def pick_to_export(run: Run) -> int:
    """The pick's number, of a search that is over and has one within its limits; else a RunError.

    Any other trial is to be asked for by its number.
    """
    number = run.pick().number
    command = f"safemerge export {run.dir.path} {number}"
    if not run.over:
        trials = f"{len(run.candidates)} of {run.config.search.trials} trials"
        raise RunError(
            f"the search in {run.dir.path} is not over ({trials}), so there is no pick yet; go on "
            f"with `safemerge search`, or ask for a trial by its number: {command}"
        )
    found = standing(run, number)
    if found.outside:
        raise RunError(
            f"the pick of {run.dir.path}, trial {number}, is {found.mark} ({found.text}); if you "
            f"want it all the same, ask for it by its number: {command}"
        )
    return number


def _measured(
    run: Run, number: int, scores: dict[str, Score]
) -> tuple[dict[str, dict[str, Score]], list[str]]:
    """Rows of scores, that of the trial first, and sentences on what they are."""
    name = f"this model (trial {number})"
    heldout = run.heldout()
    if heldout is not None and number in heldout.front:
        others = {row: scores for row, scores in heldout.rows.items() if row != "search"}
        rows = {name: heldout.front[number], **others}
        notes = [
            "Rates are of greedy replies to held-out probes, which the judge "
            f"{shown_judge(heldout.judge)} has read."
        ]
    else:
        rows = {name: scores, "base": dict(run.baseline.base)}
        notes = [
            "These are likelihoods of the wanted answers to the search probes, which the search "
            "optimised, and no rates of replies; this trial was not measured on held-out probes."
        ]
    found = standing(run, number)
    if found.outside:
        notes.append(
            f"This trial is outside the limits of its search {found.source}: {found.text}."
        )
    if heldout is not None and number in heldout.front:
        sources = {source.name: heldout.rows[source.name] for source in run.config.models.sources}
        limits = Limits(run.config.limits, ReferenceScores(heldout.rows["base"], sources))
        missed = against(limits, heldout.front[number])
        if missed:
            listed = "; ".join(missed.values())
            notes.append(f"On held-out probes this trial is outside those limits: {listed}.")
    if not run.over:
        notes.append("The search was not over when this trial was exported.")
    return rows, notes
