"""What a trial of a search costs besides its merge and forward passes: sampler, study, records.

    python benchmarks/search_overhead.py --trials 60 300 --out overhead.json

CPU seconds of this process over a real study in a journal with every record on disk, at the demo's
numbers, two objectives and three limits. The first trials are merged and scored on the small
world for what that costs; all scores that the sampler sees are a smooth function of the recipe, so
that hundreds of trials take minutes. Every trial is raced twice against the front, by invented
values of every probe, and runs to its end. Then a real warm start, and what of it is neither merge
nor passes through the model. The small world's models are the cheapest there are to score: the
share falls with every parameter of a larger one.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import json
import pstats
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median
from typing import Any
from unittest.mock import patch

import torch

from safemerge.recipe import Recipe
from safemerge.score import Score
from search.commands.demo import PER_AXIS, demo_config
from search.config import SearchConfig
from search.config.search import STEP_COST
from search.metrics import RETENTION
from search.runs.provenance import measure_baseline, record_start
from search.runs.rundir import RunDir
from search.runs.workbench import Workbench, open_workbench
from search.samplers.quiet_optuna import quiet_optuna
from search.scoring.likelihood import Measurement
from search.scoring.racing import Race
from search.study.context import StudyContext
from search.study.queue import enqueue_first
from search.study.storage import open_study
from search.study.trials import run_trials
from search.warmstart.probe_losses import GroupLosses, ProbeLosses
from synth.probes.probe import ProbeSet
from synth.progress import silent
from synth.zoo import World, ZooSpec, build_zoo, probes

METRICS = ("domain", "harmless", "helpful", "honest", "over_refusal", "degenerate")


class Invented:
    """Scores that cost nothing: each metric falls with the distance of the weights from a point."""

    def __init__(self, measured: int) -> None:
        self.real, self.measured = Workbench.measure, measured
        self.hard = torch.linspace(-0.1, 0.1, PER_AXIS)  # how likely, beside the mean, by probe
        self.scored: list[float] = []  # CPU seconds of a real merge and its forward passes
        self.seconds = 0.0  # that scoring has taken altogether
        self.starts: list[float] = []

    def measure(
        self, bench: Workbench, recipe: Recipe, *, race: Race | None, **_: float
    ) -> Measurement:
        start = time.process_time()
        self.starts.append(start - self.seconds)
        if len(self.scored) < self.measured:
            # All probes: the race is against invented points, and hardly trained models babble.
            self.real(bench, recipe)
            self.scored.append(time.process_time() - start)
        weights = [w for row in recipe.weights.values() for w in row.values()]
        found = {}
        for i, metric in enumerate(METRICS):
            best = 5.0 * (i + 1) / (len(METRICS) + 1)
            value = fmean(1.0 / (1.0 + (w - best) ** 2) for w in weights[i :: len(METRICS)])
            low = metric in ("over_refusal", "degenerate")
            found[metric] = Score(0.1 * (1.0 - value) if low else value, 0.02, 100)
        by_probe = {metric: score.value + self.hard for metric, score in found.items()}
        self.seconds += time.process_time() - start
        for asked in (PER_AXIS // 4, PER_AXIS // 2) if race is not None else ():
            race.early_stop_scores({metric: values[:asked] for metric, values in by_probe.items()})
        return Measurement(found, by_probe)


@contextmanager
def begun(config: SearchConfig, home: RunDir) -> Iterator[tuple[Workbench, StudyContext]]:
    """A run that is held, with its study, before anything is tried."""
    bench = open_workbench(config)
    baseline = measure_baseline(home, bench, {})
    with home.locked(), quiet_optuna():
        record_start(home, config, bench, baseline, {})
        yield bench, StudyContext.of(home, open_study(home, config), config, baseline)


def overhead(config: SearchConfig, home: RunDir, measured: int, profile: Path | None) -> Any:
    """CPU seconds of every trial besides scoring, and of scoring a real one."""
    evaluator = Invented(measured)

    def measure(bench: Workbench, recipe: Recipe, **how: Any) -> Measurement:
        return evaluator.measure(bench, recipe, **how)

    scored = patch.object(Workbench, "measure", measure)
    with begun(config, home) as (bench, context), scored, cProfile.Profile() as profiler:
        if profile is None:
            profiler.disable()
        run_trials(context, bench, silent, first=0)
    if profile is not None:
        pstats.Stats(profiler).dump_stats(profile)
    end = time.process_time() - evaluator.seconds
    marks = [*evaluator.starts, end]
    own = [after - before for before, after in itertools.pairwise(marks)]
    return own, evaluator.scored, len(bench.space.parameters)


def warm_start_overhead(config: SearchConfig, home: RunDir) -> dict[str, float]:
    """CPU seconds of a warm start, records and all, and of what in it is no linearisation."""
    passes = 0.0
    real = ProbeLosses.measure

    def measured(self: ProbeLosses, knots: torch.Tensor) -> GroupLosses | None:
        nonlocal passes
        start = time.process_time()
        found = real(self, knots)
        passes += time.process_time() - start
        return found

    patched = patch.object(ProbeLosses, "measure", measured)
    with begun(config, home) as (bench, context), patched:
        start = time.process_time()
        enqueue_first(context, config, bench, None, None, silent)
        took = time.process_time() - start
    steps = home.read("warmstart.json")["evaluations"] // STEP_COST
    own = took - passes
    return {"steps": steps, "cpu_s": took, "besides_passes_cpu_s": own, "share": own / took}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[60, 300])
    parser.add_argument("--sampler", default="blend")
    parser.add_argument("--measured", type=int, default=5, help="trials that are really scored")
    parser.add_argument("--width", type=int, default=128, help="hidden size of the small world")
    parser.add_argument("--models", type=Path, help="folder to keep the small world in")
    parser.add_argument("--profile", type=Path, help="file for cProfile's figures")
    parser.add_argument("--out", type=Path, default=Path("runs/search_overhead.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        zoo = build_zoo(
            args.models or folder / "zoo", ZooSpec(width=args.width, effort=0.02), processes=1
        )
        ProbeSet(tuple(probes(World(0), "search", PER_AXIS))).to_jsonl(folder / "probes.jsonl")
        most = max(args.trials)
        record = demo_config(zoo, folder, seed=0, device="cpu", trials=60).record()
        record["probes"]["retention"] = "off"  # no model is asked anything here
        for metric in RETENTION:
            record["limits"].pop(metric, None)
        usual = SearchConfig.from_record(record)
        record["search"] |= {"sampler": args.sampler, "trials": most, "warm_start": {"steps": 0}}
        config = SearchConfig.from_record(record)
        own, scored, numbers = overhead(config, RunDir(folder / "run"), args.measured, args.profile)
        warm = warm_start_overhead(usual, RunDir(folder / "warm"))
    cost = median(scored)
    result: dict[str, Any] = {"sampler": args.sampler, "numbers": numbers, "scoring_cpu_s": cost}
    result["warm_start"] = warm
    for trials in args.trials:
        mean, last = fmean(own[:trials]), fmean(own[max(0, trials - 20) : trials])
        result[f"{trials}_trials"] = {
            "mean_cpu_s": mean,
            "last_20_cpu_s": last,
            "share_of_a_trial": mean / (mean + cost),
        }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
