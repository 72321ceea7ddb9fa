"""The verbs that need neither a config nor a run: merge, eval, tasks, probes-from and
judge-agreement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from search.cli.options import (
    Json,
    JudgeKey,
    Judges,
    Pickle,
    Template,
    ThinkingMode,
    ThinkingTokens,
    chosen,
)


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

    The recipe is one of safemerge (JSON), or a YAML file as mergekit reads it (.yml or .yaml),
    whose name is the card's title. What cannot be expressed in a mergekit file is refused before
    anything is written. Of several documents the last is written to OUT, and those before it, by
    their names, to OUT.parts. The recipe as it was merged is kept in the output as recipe.json.
    """
    from safemerge.cache import tensor_store
    from safemerge.devices import check_device
    from safemerge.io import check_output
    from safemerge.mergekit import Document, documents, from_mergekit
    from safemerge.merging import MergeOptions, plan
    from safemerge.merging import merge as write_merge
    from safemerge.recipe import Recipe
    from search.cli.tables import emit_json, merge_plan, progress_bar

    check_device(device)
    is_mergekit = recipe.suffix.lower() in (".yml", ".yaml")
    options = MergeOptions(allow_pickle=allow_pickle, store=tensor_store(), device=device)
    if dry_run:
        parsed = from_mergekit(recipe, allow_pickle=allow_pickle) if is_mergekit else None
        planned = plan(parsed or Recipe.load(recipe), out, options)
        if json_:
            emit_json(planned)
        else:
            merge_plan(planned)
        return
    if is_mergekit:
        check_output(out)  # before the first of several merges
        merges = documents(recipe, out, allow_pickle=allow_pickle)
    else:
        merges = iter([Document(Recipe.load(recipe), None, out)])
    for stage in merges:
        with progress_bar() as report:
            digest = write_merge(
                stage.recipe,
                stage.out,
                options=options,
                card=stage.title,
                progress=partial(_report_merge, report),
            )
    if json_:
        emit_json({"out": str(out), "hash": digest})
    else:
        typer.echo(str(out))


def _report_merge(report: Callable[..., None], name: str, done: int, total: int) -> None:
    report("merge", done, total, name)


def eval_(
    model: Annotated[str, typer.Argument(help="Checkpoint folder or hub id.")],
    probes: Annotated[Path, typer.Option(help="JSON Lines of probes to answer.")],
    judge: Judges = None,
    grader: Annotated[
        str | None,
        typer.Option(help="Chat model that reads long free-text answers: a folder or hub id."),
    ] = None,
    judge_key: JudgeKey = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Length of a reply.")] = 64,
    template: Template = None,
    thinking: ThinkingMode = "off",
    thinking_tokens: ThinkingTokens = 1024,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    json_: Json = False,
) -> None:
    """Measure any checkpoint on a probe file, by greedy generation, checks and a judge."""
    from safemerge.devices import check_device
    from search.cli.score_tables import rate_table
    from search.cli.tables import emit_json, progress_bar, say
    from search.scoring.generation import score_generations
    from synth.engines.template import ChatSettings
    from synth.engines.thinking import Thinking
    from synth.engines.transformers import TransformersEngine
    from synth.grading import (
        JUDGED,
        check_gradable,
        make_grader,
        unchecked_notes,
        untold_note,
    )
    from synth.judges import make_judge
    from synth.probes.probe import ProbeSet

    check_device(device)
    prompts = ProbeSet.from_jsonl(probes).probes
    check_gradable(prompts, graded=grader is not None)
    # Without harmful and benign probes the judge is asked nothing, and need not be chosen.
    needed = judge or any(probe.axis in JUDGED for probe in prompts)
    names = chosen(judge) if needed else ["phrases"]
    for note in unchecked_notes(prompts, graded=grader is not None):
        say(note)
    with progress_bar() as report:
        report("load models", 0, 1, "")
        labels = make_judge(names, device=device, key=judge_key)
        reads = None if grader is None else make_grader(grader, device=device)
        chat = ChatSettings(template, cast(Thinking, thinking), thinking_tokens)
        engine = TransformersEngine(model, device=device, chat=chat)
        report("load models", 1, 1, "")
        report("answer and judge", 0, 1, f"{len(prompts)} probes")
        scores, answers = score_generations(
            engine, prompts, labels, max_tokens=max_tokens, grader=reads
        )
        report("answer and judge", 1, 1, "")
    if untold := untold_note(answer.untold for answer in answers):
        say(untold)
    if json_:
        emit_json(scores)
    else:
        rate_table(
            {model: scores}, f"Rates of replies to {len(prompts)} probes, ± one standard error"
        )


def tasks(
    model: Annotated[
        str, typer.Argument(help="Checkpoint folder, hub id, or a recipe.json, merged in memory.")
    ],
    group: Annotated[
        list[str],
        typer.Option(
            help="knowledge, honesty or instructions, with tasks of their own, or GROUP=TASK,TASK, "
            "as in domain=medmcqa. Repeatable."
        ),
    ],
    include: Annotated[
        Path | None, typer.Option(help="Folder of task files (YAML) beside lm-eval's own.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most items of a task.")] = None,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    json_: Json = False,
) -> None:
    """Measure a checkpoint or a recipe on tasks of lm-eval, with the chat template.

    Needs lm-eval: pip install "safemerge[lm-eval]". It fetches the data of its tasks itself.
    """
    from search.cli.tables import emit_json, print_table
    from search.commands.measure_tasks import measure_tasks

    scores = measure_tasks(model, group, include=include, limit=limit, device=device)
    if json_:
        emit_json(scores)
        return
    rows = [[s.group, s.task, s.metric, _with_error(s.value, s.stderr), str(s.n)] for s in scores]
    print_table(f"lm-eval on {model}", ["group", "task", "metric", "value", "n"], rows, names=3)


def _with_error(value: float, stderr: float | None) -> str:
    return f"{value:.4f}" if stderr is None else f"{value:.4f} ± {stderr:.4f}"


def probes_from(
    files: Annotated[
        list[str], typer.Argument(help="SET=FILE, as in xstest=xstest_prompts.csv; any number.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Probe file to write.")],
    json_: Json = False,
) -> None:
    """Make a probe file of prompt files that benchmarks publish, which you have downloaded.

    SET is harmbench, wildguardtest, xstest, or_bench, or_bench_toxic, strongreject, do_not_answer,
    beavertails or truthfulqa. Most have no wanted replies and get a stand-in: measure them by
    replies, with `safemerge eval` or as held-out probes. No text is printed.
    """
    from safemerge.errors import OutputError, ProbeError
    from safemerge.writable import check_writable
    from search.cli.tables import emit_json, say
    from synth.probes.probe import Probe, ProbeSet
    from synth.published.sets import load_prompts

    if out.exists():
        raise OutputError(f"{out} exists already; name another file, or remove it first")
    check_writable(out.parent)
    probes: list[Probe] = []
    counts: list[dict[str, Any]] = []
    for named in files:
        name, equals, path = named.partition("=")
        if not equals or not path:
            raise ProbeError(f"{named!r} is not SET=FILE, as in xstest=xstest_prompts.csv")
        loaded = load_prompts(name, Path(path))
        probes += loaded.probes
        for reason, rows in loaded.left_out.items():
            say(f"{path}: {rows} rows left out ({reason})")
        found = Counter(probe.axis for probe in loaded.probes)
        counts.append({"set": name, "file": path, "probes": found, "left_out": loaded.left_out})
    ProbeSet(tuple(probes)).to_jsonl(out)
    if json_:
        emit_json(counts)
        return
    for row in counts:
        kept = ", ".join(f"{count} {axis}" for axis, count in row["probes"].items())
        say(f"{row['set']}: {kept}")
    typer.echo(str(out))


def judge_agreement(
    file: Annotated[Path, typer.Argument(help="JSON Lines of prompt, answer and human label.")],
    judge: Judges = None,
    judge_key: JudgeKey = None,
    device: Annotated[str, typer.Option(help="Torch device of guard models.")] = "cpu",
    json_: Json = False,
) -> None:
    """Compare judges with human labels: Cohen's kappa and confusion tables.

    Labels are comply, partial, refuse, degenerate and unreadable. Several judges are compared with
    each other too, and their vote with the labels. No text of the file is printed.
    """
    from safemerge.devices import check_device
    from search.cli.tables import agreement_tables, emit_json, progress_bar
    from synth.judges import make_judge
    from synth.judges.agreement import compare, read_labelled
    from synth.judges.ensemble import EnsembleJudge, vote

    check_device(device)
    names = chosen(judge)
    rows = read_labelled(file)
    prompts, answers = [row.prompt for row in rows], [row.answer for row in rows]
    labels = [row.label for row in rows]
    # What cannot be read is to be reported, and not stopped.
    with progress_bar() as report:
        report("judges", 0, 1, f"{len(rows)} answers")
        made = make_judge(names, device=device, unreadable_frac=1.0, key=judge_key)
        together = made if isinstance(made, EnsembleJudge) else EnsembleJudge({names[0]: made})
        verdicts = together.votes(prompts, answers)
        report("judges", 1, 1, "")
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
