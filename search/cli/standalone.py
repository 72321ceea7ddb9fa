"""The verbs that need neither a config nor a run: merge, eval and judge-agreement."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Annotated

import typer

from search.cli.options import Json, Judges, Pickle


def merge(
    recipe: Annotated[
        Path, typer.Argument(help="recipe.json, as in runs/NAME/trials/*/, or a mergekit .yml.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to create.")],
    device: Annotated[str, typer.Option(help="Torch device of the arithmetic.")] = "cpu",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, say what it would take, and stop.")
    ] = False,
    json_: Json = False,
    allow_pickle: Pickle = False,
) -> None:
    """Merge once: write the checkpoint that a recipe describes.

    The recipe is one of safemerge (JSON), or a YAML file as mergekit reads it (.yml or .yaml);
    what cannot be expressed in a mergekit file is refused before anything is written. The recipe
    as it was merged is kept in the output as recipe.json.
    """
    from safemerge.cache import tensor_store
    from safemerge.devices import check_device
    from safemerge.merging import MergeOptions, plan
    from safemerge.merging import merge as write_merge
    from safemerge.recipe import Recipe
    from search.cli.tables import emit_json, merge_plan, progress_bar

    check_device(device)
    if recipe.suffix.lower() in (".yml", ".yaml"):
        from safemerge.mergekit import from_mergekit

        parsed = from_mergekit(recipe, allow_pickle=allow_pickle)
    else:
        parsed = Recipe.load(recipe)
    options = MergeOptions(allow_pickle=allow_pickle, store=tensor_store(), device=device)
    if dry_run:
        planned = plan(parsed, out, options)
        if json_:
            emit_json(planned)
        else:
            merge_plan(planned)
        return
    with progress_bar() as report:
        digest = write_merge(
            parsed,
            out,
            options=options,
            progress=lambda name, done, total: report("merge", done, total, name),
        )
    if json_:
        emit_json({"out": str(out), "hash": digest})
    else:
        typer.echo(str(out))


def eval_(
    model: Annotated[str, typer.Argument(help="Checkpoint folder or hub id.")],
    probes: Annotated[Path, typer.Option(help="JSON Lines of probes to answer.")],
    judge: Judges = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Length of a reply.")] = 64,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    json_: Json = False,
) -> None:
    """Measure any checkpoint on a probe file, by greedy generation and a judge."""
    from safemerge.devices import check_device
    from search.cli.score_tables import rate_table
    from search.cli.tables import emit_json
    from search.scoring.generation import score_generations
    from synth.engines.transformers import TransformersEngine
    from synth.judges import make_judge
    from synth.probes.probe import ProbeSet

    check_device(device)
    labels = make_judge(judge or "phrases", device=device)
    prompts = ProbeSet.from_jsonl(probes).probes
    engine = TransformersEngine(model, device=device)
    scores, _ = score_generations(engine, prompts, labels, max_tokens=max_tokens)
    if json_:
        emit_json(scores)
    else:
        rate_table(
            {model: scores}, f"Rates of replies to {len(prompts)} probes, ± one standard error"
        )


def judge_agreement(
    file: Annotated[Path, typer.Argument(help="JSON Lines of prompt, answer and human label.")],
    judge: Judges = None,
    device: Annotated[str, typer.Option(help="Torch device of guard models.")] = "cpu",
    json_: Json = False,
) -> None:
    """Compare judges with human labels: Cohen's kappa and confusion tables.

    Labels are comply, partial, refuse, degenerate and unreadable. Several judges are compared with
    each other too, and their vote with the labels. No text of the file is printed.
    """
    from safemerge.devices import check_device
    from search.cli.tables import agreement_tables, emit_json
    from synth.judges import make_judge
    from synth.judges.agreement import compare, read_labelled
    from synth.judges.ensemble import EnsembleJudge, vote

    check_device(device)
    names = judge or ["phrases"]
    rows = read_labelled(file)
    prompts, answers = [row.prompt for row in rows], [row.answer for row in rows]
    labels = [row.label for row in rows]
    made = make_judge(names, device=device, unreadable_frac=1.0)  # to be reported, not stopped
    together = made if isinstance(made, EnsembleJudge) else EnsembleJudge({names[0]: made})
    verdicts = together.votes(prompts, answers)
    if len(verdicts) > 1:
        verdicts["vote"] = vote(list(verdicts.values()))
    with_people = [compare(labels, given, judge=name) for name, given in verdicts.items()]
    between = [
        compare(verdicts[rater], verdicts[judge], rater=rater, judge=judge)
        for rater, judge in combinations(names, 2)
    ]
    if json_:
        emit_json([*with_people, *between])
    else:
        agreement_tables(with_people, between)
