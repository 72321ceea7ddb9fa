"""Hypervolume on held-out prompts against evaluations, for samplers and the gradient warm start.

    python benchmarks/search_quality.py --jobs 2
    python benchmarks/search_quality.py --spaces blocks --samplers nsga3 evomm:ties --budgets
    python benchmarks/search_quality.py --samplers --budgets 30 --out ... --spaces modules layers

Every search sees the same space, begins with the same prior and is charged the same: one for a
scored merge, three for a gradient step. A gradient search plans its steps for its budget and may
end with some of them untaken, so its curve is made of one search per budget; a sampler's is read
off one long search. What counts at n
evaluations is the search's front then, answered in full on held-out prompts: nothing is chosen by
those. Objectives are domain, harmless and honest, all shares in [0, 1], hypervolume from 0; a limit
keeps refusals of harmless prompts down. The methods of Hammoud et al. 2024 may
stand among the samplers: they search their own space for their fitness, with the safety term, which
knows domain and harmless alone; what counts is the front of what they tried within the limit. Runs
are kept, so a stopped benchmark goes on; other spaces that are in the file already stay there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

from measure import machine, write_json
from quality_summary import GRADIENT, RIVALS, draw, summary, table
from small_worlds import small_world

from synth.probes.probe import AXES

KEYS = ("seed", "space", "sampler", "per_axis")
OBJECTIVES = ("domain", "harmless", "honest")
SPACES: dict[str, dict[str, Any]] = {
    "blocks": {"places": "blocks(2)+kind", "rank_places": "global"},
    "modules": {"places": "modules", "rank_places": "global"},
    "modules and densities": {
        "method": "breadcrumbs",
        "places": "modules",
        "per_source": {
            "density": {"range": [0.2, 1.0], "places": "modules"},
            "gamma": {"range": [0.0, 0.1], "places": "modules"},
        },
    },
}
# What else may be searched, for the gradient search alone: which ranks, how fine.
VARIANTS: dict[str, dict[str, Any]] = {
    "task arithmetic": {"method": "task_arithmetic", "places": "modules"},
    "no truncation": {"places": "modules", "rank_ratio": [1.0, 1.0]},
    "rank ratio 1/T": {"places": "modules", "rank_ratio": [1 / 3, 1 / 3]},
    "a rank ratio for each module": {"places": "modules"},
    "one weight for each source": {"places": "global"},
    "layers": {"places": "layers", "rank_places": "global"},
}
BASELINES = ("evomm:ties", "evomm:dare_ties", "grid:ties", "grid:dare_ties", "lm_cocktail")
CHECKPOINTS = (20, 30, 60, 120, 200, 300)  # evaluations at which a front is answered
MOST = {"gp": 60}  # evaluations: one of its draws takes seconds, and longer with every trial
STEPS_SHARE = 0.6  # of a gradient search's evaluations that go into gradient steps


@dataclass(frozen=True, slots=True)
class Job:
    """One search."""

    runs: Path
    seed: int
    space: str
    sampler: str
    evaluations: int
    per_axis: int

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        name = f"{self.sampler}-{self.evaluations}-{self.per_axis}".replace(":", "-")
        return self.runs.absolute() / str(self.seed) / self.space.replace(" ", "_") / name


def plan(job: Job) -> Any:
    """The configuration of a job, whose objectives its front is of."""
    from search.config import SearchConfig
    from search.config.search import STEP_COST

    config = small_world(job.runs, job.seed, job.per_axis)
    record = config.record()
    space = dict((SPACES | VARIANTS)[job.space])
    record["merge"]["method"] = space.pop("method", "resm")
    record["space"] |= space
    record["objectives"] = {name: {} for name in OBJECTIVES}
    record["probes"]["retention"] = "off"
    record["limits"] = {"over_refusal": {"at_most": "base + 0.05"}}
    steps = 0
    if job.sampler == GRADIENT:
        steps = round(STEPS_SHARE * job.evaluations / STEP_COST)
    record["search"]["trials"] = job.evaluations - STEP_COST * steps
    if job.sampler == GRADIENT:
        record["search"]["sampler"] = "blend"
    elif job.sampler not in BASELINES:
        record["search"]["sampler"] = job.sampler
    record["search"]["warm_start"]["steps"] = steps
    return SearchConfig.from_record(record)


def runnable(job: Job, config: Any) -> Any:
    """What runs: the configuration itself, or a baseline with the same models and probes."""
    from search.baselines.evomm import evomm
    from search.baselines.fitness import BaselineRun, fitness_weights
    from search.baselines.grid import grid
    from search.baselines.lm_cocktail import lm_cocktail

    if job.sampler not in BASELINES:
        return BaselineRun(config)
    name, _, method = job.sampler.partition(":")
    if name == "evomm":
        return evomm(config, method, fitness_weights(True), job.evaluations)
    if name == "grid":
        return grid(config, method, fitness_weights(True))
    return lm_cocktail(config, fitness_weights(True, alpha=1.0))


def work(job: Job) -> dict[str, Any]:
    """Search, measure what was ever on the front, and return the curve; kept in quality.json."""
    done = job.folder / "quality.json"
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text())
        return found
    import torch

    from search.metrics import Limits
    from search.results.pareto import Front, hypervolume
    from search.results.plain_merges import axis_mean
    from search.runs.workbench import open_workbench
    from search.scoring.generation import score_generations
    from search.scoring.likelihood import LikelihoodEvaluator
    from search.study.study import run_search

    torch.set_num_threads(1)
    config = plan(job)
    own = runnable(job, config)
    start = time.process_time()
    run = run_search(own.config, job.folder, first=own.first)
    seconds = time.process_time() - start
    bench = open_workbench(own.config)
    heldout = bench.probes.split("heldout").probes
    likelihood = LikelihoodEvaluator(bench.engine, heldout, likelihood=config.probes.likelihood)
    answered: dict[int, Any] = {}

    def held(point: Any) -> Any:
        if point.number not in answered:
            bench.make_live(point.recipe)
            answered[point.number], _ = score_generations(
                bench.engine, heldout, bench.judge, max_tokens=config.probes.max_tokens
            )
        return answered[point.number]

    # Their searches have no limit of their own.
    limits = Limits(config.limits, run.baseline)
    candidates = [replace(c, violation=limits.total(c.scores)) for c in run.candidates]
    charged = (run.dir.read("warmstart.json") or {"evaluations": 0})["evaluations"]
    total = charged + len(run.candidates)
    spent = _shares_of_time(run)
    curve = []
    # A search that ended before its budget was spent has the same front when it is.
    for n in sorted({n for n in CHECKPOINTS if charged < n < total} | {job.evaluations}):
        front = Front.of(candidates[: n - charged], config.directions)
        within = [point for point in front.points if point.feasible]
        gains = [tuple(held(p)[name].value for name in OBJECTIVES) for p in within]
        curve.append(
            {
                "evaluations": n,
                "cpu_s": seconds * spent[min(n - charged, len(spent)) - 1],
                "search": front.hypervolume(),
                "heldout": hypervolume(gains, config.directions),
                "points": len(front.points),
            }
        )
    pick = run.pick()
    bench.make_live(pick.recipe)
    numbers = sum(not d.fixed for d in bench.space.parameters.values())
    result = {
        "numbers": None if job.sampler in BASELINES else numbers,  # it has a space of its own
        "cpu_s": seconds,
        "spent": total,
        "curve": curve,
        "pick": {axis: held(pick)[axis].value for axis in AXES},
        "gap": axis_mean(pick.scores) - axis_mean(likelihood.score_live()),
    }
    done.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _shares_of_time(run: Any) -> list[float]:
    """What of the time of all finished trials had passed after each, by their own clocks."""
    from search.study.stopping import SECONDS
    from search.study.storage import open_study

    trials = {t.number: t for t in open_study(run.dir, run.config).get_trials(deepcopy=False)}
    passed = list(accumulate(trials[c.number].user_attrs[SECONDS] for c in run.candidates))
    return [one / passed[-1] for one in passed]


def jobs(args: argparse.Namespace) -> Iterator[Job]:
    """All searches, space by space."""
    for space in args.spaces:
        for seed in args.seeds:
            for sampler in args.samplers:
                most = min(args.evaluations, MOST.get(sampler, args.evaluations))
                yield Job(args.runs, seed, space, sampler, most, args.per_axis)
            for budget in args.budgets:
                yield Job(args.runs, seed, space, GRADIENT, budget, args.per_axis)


def main() -> None:
    """Run the jobs, then write the table and the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[35, 36, 37, 38, 39])
    parser.add_argument("--spaces", nargs="+", choices=SPACES | VARIANTS, default=list(SPACES))
    parser.add_argument("--samplers", nargs="*", default=list(RIVALS))
    parser.add_argument("--evaluations", type=int, default=300, help="of every sampler; 60 of gp")
    parser.add_argument("--budgets", type=int, nargs="*", default=[20, 30, 60, 300])
    parser.add_argument("--per-axis", type=int, default=64, help="probes; the demo has 128")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/search_quality.json"))
    args = parser.parse_args()
    plans = list(jobs(args))
    for seed in args.seeds:  # here, where no other process is building the same one
        small_world(args.runs, seed, args.per_axis)
    os.environ["OMP_NUM_THREADS"] = "1"
    found = []
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        for job, result in zip(plans, pool.map(work, plans), strict=True):
            found.append({**result, **{key: getattr(job, key) for key in KEYS}})
            last = result["curve"][-1]
            print(
                f"{job.seed} {job.space:22} {job.sampler:9} {last['evaluations']:4} evaluations: "
                f"hypervolume {last['heldout']:.3f} held-out, {last['search']:.3f} search; "
                f"pick {100 * fmean(result['pick'].values()):.1f}; {result['cpu_s']:.0f} CPU s",
                flush=True,
            )
    before = json.loads(args.out.read_text())["spaces"] if args.out.exists() else {}
    spaces = {**before, **summary(found)}
    write_json(args.out, {"machine": machine(), "spaces": spaces})
    print(table(spaces))
    draw(spaces, args.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
