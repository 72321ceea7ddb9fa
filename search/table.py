"""The held-out table of a run: base, sources, plain merges, baselines, the pick, and the front.

Every row is measured on the same held-out probes by generation and a judge, and nothing is chosen
by them: the front, the pick and the best single weight come from search and validation probes.
The front is also scored by likelihood, as the search scores it, for the gap between the two sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from safemerge.resident import ResidentMerge
from search.answering import write_answers
from search.baselines.single_weight import best_single_weight, single_weight, uniform
from search.bootstrap import paired_differences
from search.config import ProbesConfig
from search.evaluate import LikelihoodEvaluator
from search.gap import Gap, gaps
from search.heldout import JUDGED, Answer, measure
from search.heldout_record import HeldOut
from search.objectives import Score
from search.pareto import Candidate, thinned
from search.progress import Report, silent
from search.run import Run
from search.setup import Workbench, heldout_judge, load_live
from search.statements import statements
from synth.judges import Verdict
from synth.judges.agreement import Agreement, compare

FRONT_POINTS = 8  # of the front are measured; a longer front is thinned evenly


def measure_run(
    run: Run,
    bench: Workbench,
    baselines: Mapping[str, Run],
    *,
    report: Report = silent,
) -> HeldOut:
    """Measure a finished run on held-out probes and write front/heldout.json.

    Args:
        run: the finished run.
        bench: its workbench.
        baselines: `{row name: finished run}` whose picks join the table.
        report: called for every row.

    Returns:
        What was measured, the pick as the last row, "search".
    """
    probes = bench.probes.split("heldout").probes
    section = run.config.probes
    likelihood = LikelihoodEvaluator(bench.engine, probes, likelihood=section.likelihood)
    other = heldout_judge(run.config)
    front = run.shown()
    points = thinned(front, FRONT_POINTS, run.pick())
    total = 3 + len(bench.inputs.sources) + len(baselines) + len(points)
    rows: dict[str, dict[str, Score]] = {}
    measured: dict[int, dict[str, Score]] = {}
    gap: dict[int, dict[str, Gap]] = {}
    replies: dict[int, list[Answer]] = {}
    said: list[Answer] = []
    for done, (name, point) in enumerate(_live_rows(run, bench, baselines, points)):
        report("held-out", done, total, name)
        scores, answers = measure(
            bench.speaker(),
            probes,
            other or bench.judge,
            max_tokens=section.max_tokens,
            second=bench.judge if other else None,
        )
        said.extend(answers)
        if point is None:
            rows[name] = scores
            continue
        number = point.number
        measured[number], replies[number] = scores, answers
        gap[number] = gaps(point.scores, likelihood.score_live())
        write_answers(run.dir, f"trials/{number:05d}/answers.jsonl", answers)
    report("held-out", total, total, "")
    pick = run.pick().number
    found = HeldOut(
        pick=pick,
        judge=" and ".join(section.heldout_judges or section.judges),
        agreement=_agreement(said, section),
        rows={**rows, "search": measured[pick]},
        front=measured,
        gap=gap,
        against_pick={
            number: paired_differences(answers, replies[pick])
            for number, answers in replies.items()
            if number != pick
        },
    )
    found = found.model_copy(update={"statements": statements(found, on_front=len(front))})
    found.save(run.dir)
    return found


def _live_rows(
    run: Run, bench: Workbench, baselines: Mapping[str, Run], points: tuple[Candidate, ...]
) -> Iterator[tuple[str, Candidate | None]]:
    """Make one row's weights live at a time: (row name, the front point that it is)."""
    load_live(bench.live, bench.inputs)
    yield "base", None
    for index, ref in enumerate(bench.inputs.refs[1:]):
        load_live(bench.live, bench.inputs, index)
        yield ref.name, None
    template = bench.space.template
    plain = ResidentMerge(
        single_weight(template, 1.0), device=bench.engine.device, inputs=bench.inputs
    )
    plain.apply(uniform(template), bench.live)
    yield "uniform", None
    plain.apply(best_single_weight(bench, plain), bench.live)
    yield "best_single_weight", None
    held = len(bench.merges)
    for name, other in baselines.items():
        bench.make_live(other.pick().recipe)
        del bench.merges[held:]  # those of several methods may not fit into memory together
        yield name, None
    for point in points:
        bench.make_live(point.recipe)
        yield f"trial {point.number}", point


def _agreement(said: Iterable[Answer], section: ProbesConfig) -> Agreement | None:
    """Of the run's judge with the other one, on all different replies that both were asked about.

    None where there is no other one, or nothing to ask about.
    """
    read = {
        (answer.id, answer.reply): (Verdict(answer.second), Verdict(answer.verdict))
        for answer in said
        if answer.axis in JUDGED and answer.second and answer.verdict
    }
    if not read:
        return None
    ours, theirs = zip(*read.values(), strict=True)
    names = (" and ".join(section.judges), " and ".join(section.heldout_judges))
    return compare(ours, theirs, rater=names[0], judge=names[1])
