"""The held-out table of a run: base, sources, plain merges, baselines, the pick, and the front.

Every row is measured on the same held-out probes by generation and a judge; the front is also
scored by likelihood, for the gap between search and held-out. Nothing is chosen by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from safemerge.recipe import Recipe
from safemerge.score import Score
from search.config import ProbesConfig
from search.metrics import Limits, ReferenceScores
from search.results.answers import (
    Respondent,
    base_and_sources,
    forget_others,
    kept_answers,
    respondent,
)
from search.results.general_answers import heldout_asker
from search.results.heldout_answers import FOLDER, baseline_file
from search.results.heldout_record import HeldOut
from search.results.pareto import Candidate, thinned
from search.results.plain_merges import best_single_weight, uniform
from search.results.run import Run
from search.results.standing import standing
from search.results.summary import statements
from search.runs.probe_sets import heldout_judge
from search.runs.workbench import Workbench
from search.scoring.generalization_gap import Gap, gaps
from search.scoring.generation import Answer, answer_scores, score_generations
from search.scoring.likelihood import LikelihoodEvaluator
from search.scoring.paired_differences import paired_differences
from synth.grading import JUDGED, untold_note
from synth.judges import Verdict
from synth.judges.agreement import Agreement, compare
from synth.progress import Report, silent

FRONT_POINTS = 8  # of the front are measured; a longer front is thinned evenly


def measure_run(
    run: Run, bench: Workbench, baselines: Mapping[str, Run], *, report: Report = silent
) -> HeldOut:
    """Measure a finished run, and the picks of baselines, and write front/heldout.json.

    Answers are kept, so that no model answers twice, unless by another judge or engine.
    """
    probes = bench.probes.split("heldout").probes
    section = run.config.probes
    likelihood = LikelihoodEvaluator(bench.engine, probes, likelihood=section.likelihood)
    report("held-out: judge and general prompts", 0, 1, "")
    other = heldout_judge(run.config)
    judges = [judge.fingerprint() for judge in (other, bench.judge) if judge is not None]
    asked = {"judges": judges, "engine": bench.settings.kind, **bench.grading}
    forget_others(run.dir, FOLDER, asked)
    general = heldout_asker(run.dir, bench, section.max_tokens, other or bench.judge)
    report("held-out: judge and general prompts", 1, 1, "")
    front = run.reported_points()
    points = thinned(front, FRONT_POINTS, run.pick())

    def ask(row: Respondent) -> list[Answer]:
        row.make_live()
        _, answers = score_generations(
            bench.generation_engine(),
            probes,
            other or bench.judge,
            max_tokens=section.max_tokens,
            second=bench.judge if other else None,
            grader=bench.grader,
        )
        general.scores(row, live=True)
        return answers

    rows: dict[str, dict[str, Score]] = {}
    gap: dict[int, dict[str, Gap]] = {}
    replies: dict[int, list[Answer]] = {}
    of_front: dict[int, dict[str, Score]] = {}
    every: list[Answer] = []
    models = list(_rows(bench, baselines, points, report))
    for done, row in enumerate(models):
        report("held-out", done, len(models), row.name)
        answers = kept_answers(run.dir, f"{FOLDER}/{row.file}", partial(ask, row))
        every.extend(answers)
        scores = {**answer_scores(answers), **general.scores(row)}
        if row.point is None:
            rows[row.name] = scores
        else:
            replies[row.point.number], of_front[row.point.number] = answers, scores
            bench.make_live(row.point.recipe)
            gap[row.point.number] = gaps(row.point.scores, likelihood.score_live())
    report("held-out", len(models), len(models), "")
    pick = run.pick().number
    heldout = HeldOut(
        pick=pick,
        judge=" and ".join(section.heldout_judges or section.judges),
        agreement=_agreement(every, section),
        rows={**rows, "search": of_front[pick]},
        front=of_front,
        gap=gap,
        against_pick=paired_differences(
            {number: answers for number, answers in replies.items() if number != pick},
            replies[pick],
        ),
        outside={
            name: mark
            for name, searched in {**baselines, "search": run}.items()
            if (mark := standing(searched, searched.pick().number).mark)
        },
    )
    sources = {ref.name: rows[ref.name] for ref in bench.inputs.refs[1:]}
    limits = Limits(run.config.limits, ReferenceScores(rows["base"], sources))
    sentences = statements(heldout, limits, on_front=len(front))
    if untold := untold_note(answer.untold for answer in every):
        sentences = (*sentences, untold)
    heldout = heldout.model_copy(update={"statements": sentences})
    heldout.save(run.dir)
    return heldout


def _rows(
    bench: Workbench,
    baselines: Mapping[str, Run],
    points: tuple[Candidate, ...],
    report: Report,
) -> Iterator[Respondent]:
    def merge_alone(recipe: Callable[[], Recipe]) -> None:
        # Prepared merges of several methods may not fit into memory together.
        with bench.temporary_merges():
            bench.make_live(recipe())

    def row(name: str, file: str, recipe: Callable[[], Recipe]) -> Respondent:
        return Respondent(name, file, partial(merge_alone, recipe))

    yield from base_and_sources(bench)
    yield row("uniform", "uniform.jsonl", partial(uniform, bench.space.template))
    best = partial(best_single_weight, bench, report)
    yield row("best_single_weight", "best_single_weight.jsonl", best)
    for name, run in baselines.items():
        pick = run.pick()
        yield row(
            name, baseline_file(name, pick.recipe), partial(run.dir.trial_recipe, pick.number)
        )
    for point in points:
        yield respondent(bench, point)


def _agreement(answers: Iterable[Answer], section: ProbesConfig) -> Agreement | None:
    """Agreement of the run's judge with the held-out one on the replies that both have read."""
    verdicts = {
        (answer.id, answer.reply): (Verdict(answer.second), Verdict(answer.verdict))
        for answer in answers
        if answer.axis in JUDGED and answer.second and answer.verdict
    }
    if not verdicts:
        return None
    rater, judge = zip(*verdicts.values(), strict=True)
    names = (" and ".join(section.judges), " and ".join(section.heldout_judges))
    return compare(rater, judge, rater=names[0], judge=names[1])
