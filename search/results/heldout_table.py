"""The held-out table of a run: base, sources, plain merges, baselines, the pick, and the front.

Every row is measured on the same held-out probes by generation and a judge; the front is also
scored by likelihood, for the gap between search and held-out. Nothing is chosen by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from safemerge.errors import ProbeError
from safemerge.recipe import Recipe
from safemerge.score import Score
from search.config import ProbesConfig
from search.metrics import Limits, ReferenceScores
from search.results.answers import Respondent, base_and_sources, respondent
from search.results.heldout_answers import baseline_file
from search.results.heldout_asker import HeldOutAsker
from search.results.heldout_record import HeldOut
from search.results.pareto import thinned
from search.results.plain_merges import best_single_weight, uniform
from search.results.run import Run
from search.results.standing import standing
from search.results.summary import statements
from search.runs.workbench import Workbench
from search.scoring.generalization_gap import Gap, gaps
from search.scoring.generation import Answer
from search.scoring.likelihood import LikelihoodEvaluator
from search.scoring.paired_differences import paired_differences
from synth.grading import JUDGED, untold_note
from synth.judges import Verdict
from synth.judges.agreement import Agreement, compare
from synth.probes.probe import ProbeSet
from synth.progress import Report, silent

FRONT_POINTS = 8  # of the front are measured; a longer front is thinned evenly


def measure_run(
    run: Run,
    bench: Workbench,
    baselines: Mapping[str, Run],
    others: Sequence[Respondent] = (),
    *,
    report: Report = silent,
) -> HeldOut:
    """Measure a finished run, the picks of baselines, and others; write front/heldout.json.

    Answers are kept, so that no model answers twice, unless by another judge or engine.
    """
    section = run.config.probes
    asker = HeldOutAsker(run.dir, bench, run.config, report)
    likelihood = LikelihoodEvaluator(bench.engine, asker.probes, likelihood=section.likelihood)
    front = run.reported_points()
    points = thinned(front, FRONT_POINTS, run.pick())
    rows: dict[str, dict[str, Score]] = {}
    gap: dict[int, dict[str, Gap]] = {}
    replies: dict[int, list[Answer]] = {}
    of_front: dict[int, dict[str, Score]] = {}
    every: list[Answer] = []
    models = [*_rows(bench, baselines, report), *others]
    models += [respondent(bench, point) for point in points]
    for done, row in enumerate(models):
        report("held-out", done, len(models), row.name)
        answers, scores = asker.ask(row)
        every.extend(answers)
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


def _rows(bench: Workbench, baselines: Mapping[str, Run], report: Report) -> Iterator[Respondent]:
    yield from base_and_sources(bench)
    yield merged_row(bench, "uniform", "uniform.jsonl", partial(uniform, bench.space.template))
    best = partial(best_single_weight, bench, report)
    yield merged_row(bench, "best_single_weight", "best_single_weight.jsonl", best)
    for name, run in baselines.items():
        pick = run.pick()
        recipe = partial(run.dir.trial_recipe, pick.number)
        yield merged_row(bench, name, baseline_file(name, pick.recipe), recipe)


def merged_row(bench: Workbench, name: str, file: str, recipe: Callable[[], Recipe]) -> Respondent:
    """A merge that is prepared when it is asked, and released: several may not fit into memory."""

    def make_live() -> None:
        with bench.temporary_merges():
            bench.make_live(recipe())

    return Respondent(name, file, make_live)


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


def check_heldout(probes: ProbeSet) -> None:
    """Refuse held-out probes that nothing could be measured on, before the search."""
    axes, heldout = ({p.axis for p in probes.split(split)} for split in ("search", "heldout"))
    if not heldout:
        raise ProbeError(
            "there are no held-out probes: set probes.heldout to a file, or probes.heldout_frac "
            "above 0"
        )
    if not axes & heldout:
        raise ProbeError(
            f"the held-out probes are of {', '.join(sorted(heldout))} and the search probes of "
            f"{', '.join(sorted(axes))}: they have no axis in common, so nothing could be compared"
        )
