"""A mixture of the small world's sources beside these and the best merges of the same probes.

    python benchmarks/fusion.py --seeds 30 31 32 33 34

A seed decides the world, its models, the probes and all training. Rows, all measured on the
held-out probes by replies: base, sources, the plain average, the search's pick with `--trials`
above 0, the mixture, and it again with one thing changed:

    no gating loss, no regulariser    weight 0
    frozen router                     random as it was drawn
    identical experts                 each the base with all deltas added, as in the released code
    top 1, top 3                      experts of a token
    anchor uniform, anchor search     attention, norms and embeddings of a merge

Worlds and probes are kept in RUNS, finished rows in RUNS/SEED/fusion, so that a stopped benchmark
goes on. Peak memory is that of a process of its own that tunes the first seed's mixture.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from measure import machine, write_json
from small_worlds import small_world

from safemerge import ModelRef, Recipe, merge
from safemerge.fusion.mixture import MixturePlan, build_mixture
from safemerge.fusion.routing import gating_accuracy, routes
from safemerge.fusion.training import Schedule
from safemerge.fusion.tuning import FusionLoss, tune_mixture
from safemerge.inputs import open_inputs
from search.config import FusionConfig
from search.doctor.fusion_memory import fusion_memory
from search.doctor.machine import used_by_process
from search.fusion.examples import probe_examples
from search.results.plain_merges import single_weight, uniform
from search.runs.probe_sets import load_probes, probe_judge
from search.runs.workbench import recipe_template
from search.scoring.generation import score_generations
from search.study.study import run_search
from synth.engines.loading import load_tokenizer, quiet
from synth.engines.template import open_template
from synth.engines.transformers import TransformersEngine
from synth.probes.probe import AXES

SOURCES = ("domain", "safe", "honest")
EXPERTS = {"domain": 0, "harmless": 1, "honest": 2}
SECTION = FusionConfig(experts={"domain": "domain", "harmless": "safe", "honest": "honest"})
LOSS = FusionLoss(SECTION.gating, (1e-3,) * 3)


class World:
    """One seed's models, probes and judge."""

    def __init__(self, args: argparse.Namespace, seed: int, trials: int) -> None:
        runs = args.runs.absolute()
        self.config = small_world(runs, seed, args.per_axis)
        self.home = runs / str(seed) / "fusion"
        self.home.mkdir(parents=True, exist_ok=True)
        self.seed = seed
        self.template = recipe_template(self.config)
        self.tokenizer = load_tokenizer(self.config.models.base)
        probes = load_probes(self.config)
        every = probes.split("heldout")
        self.heldout = [p for axis in AXES for p in every.axis(axis).probes[: args.heldout]]
        self.judge = probe_judge(self.config)
        chat = open_template(self.tokenizer, self.config.models.chat)
        limit = open_inputs(self.template).base.config["max_position_embeddings"]
        self.learned = probe_examples(chat, probes.split("search").probes, EXPERTS, limit)
        self.asked = probe_examples(chat, self.heldout, EXPERTS)
        self.pick = None
        if trials:
            study = self.config.search.model_copy(update={"trials": trials})
            config = self.config.model_copy(update={"search": study})
            self.pick = run_search(config, runs / str(seed) / "search").pick().recipe

    def rates(self, model: Any) -> dict[str, float]:
        engine = TransformersEngine(model, tokenizer=self.tokenizer)
        scores, _ = score_generations(engine, self.heldout, self.judge, max_tokens=24)
        row = {axis: scores[axis].value for axis in AXES}
        return {**row, "mean": mean(row.values()), "over_refusal": scores["over_refusal"].value}

    def merged(self, recipe: Recipe) -> Path:
        """A merge as a checkpoint in the benchmark's own folder."""
        folder = self.home / f"merge-{hash_of(recipe)}"
        if not folder.exists():
            merge(recipe, folder)
        return folder

    def identical(self) -> Recipe:
        """A recipe whose sources are all the base plus the sum of all deltas."""
        folder = str(self.merged(single_weight(self.template, 1.0)))
        sources = tuple(ModelRef(name=name, path=folder) for name in SOURCES)
        return self.template.model_copy(update={"sources": sources})

    def mixture(
        self,
        *,
        recipe: Recipe | None = None,
        plan: MixturePlan | None = None,
        loss: FusionLoss = LOSS,
        frozen_router: bool = False,
    ) -> dict[str, float]:
        begin = time.monotonic()
        plan = replace(plan or MixturePlan(), seed=self.seed)
        with quiet(), tempfile.TemporaryDirectory() as folder:
            model = build_mixture(open_inputs(recipe or self.template), plan)
            schedule = Schedule(
                SECTION.steps, SECTION.batch, SECTION.lr, self.seed, save_steps=SECTION.steps
            )
            history = tune_mixture(
                *(model, self.learned, loss, schedule, Path(folder)), frozen_router=frozen_router
            )
        seconds = time.monotonic() - begin
        accuracy = gating_accuracy(routes(model, self.asked), self.asked)
        assert accuracy is not None  # three axes have an expert
        told = {"gating_accuracy": accuracy, "seconds": round(seconds, 1), "lm": history[-1]["lm"]}
        return {**self.rates(model), **told}

    def checkpoint(self, folder: str | Path) -> dict[str, float]:
        return self.rates(TransformersEngine(folder, dtype=torch.float32).model)


def hash_of(recipe: Recipe) -> str:
    import hashlib

    return hashlib.sha256(recipe.canonical_json().encode()).hexdigest()[:12]


def rows_of(world: World) -> dict[str, Callable[[], dict[str, float]]]:
    models = world.config.models
    average = uniform(world.template)
    rows: dict[str, Callable[[], dict[str, float]]] = {
        "base": lambda: world.checkpoint(models.base),
        **{s.name: (lambda path=s.path: world.checkpoint(path)) for s in models.sources},
        "uniform": lambda: world.checkpoint(world.merged(average)),
        "mixture": world.mixture,
        "no gating loss": lambda: world.mixture(loss=replace(LOSS, gating=0.0)),
        "no regulariser": lambda: world.mixture(loss=replace(LOSS, gammas=())),
        "frozen router": lambda: world.mixture(frozen_router=True),
        "identical experts": lambda: world.mixture(recipe=world.identical()),
        "top 1": lambda: world.mixture(plan=MixturePlan(top_k=1)),
        "top 3": lambda: world.mixture(plan=MixturePlan(top_k=3)),
        "anchor uniform": lambda: world.mixture(plan=MixturePlan(anchor=average)),
    }
    pick = world.pick
    if pick is not None:
        rows["search"] = lambda: world.checkpoint(world.merged(pick))
        rows["anchor search"] = lambda: world.mixture(plan=MixturePlan(anchor=pick))
    return rows


def measure_seed(args: argparse.Namespace, seed: int) -> dict[str, dict[str, float]]:
    world = World(args, seed, args.trials)
    found: dict[str, dict[str, float]] = {}
    for name, make in rows_of(world).items():
        if args.rows and name not in args.rows:
            continue
        kept = world.home / f"{name.replace(' ', '-')}.json"
        if not kept.exists():
            kept.write_text(json.dumps(make()))
        found[name] = json.loads(kept.read_text())
        print(f"seed {seed}, {name}: {json.dumps(found[name])}", flush=True)
    return found


def tune_alone(args: argparse.Namespace, seed: int) -> None:
    """Print the memory that is stated for a mixture, and that which this process took."""
    world = World(args, seed, trials=0)
    inputs = open_inputs(world.template)
    stated = fusion_memory(inputs, world.learned, SECTION, used_by_process())
    world.mixture()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"stated": stated.total, "peak": peak}))


def main() -> None:
    """Measure the seeds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[30, 31, 32, 33, 34])
    parser.add_argument("--runs", type=Path, default=Path("runs/fusion"))
    parser.add_argument("--per-axis", type=int, default=128)
    parser.add_argument("--heldout", type=int, default=256, help="held-out probes an axis")
    parser.add_argument("--trials", type=int, default=60, help="of the search; 0: none")
    parser.add_argument("--rows", nargs="*", help="measure these alone")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fusion.json"))
    args = parser.parse_args()
    if args.memory:
        tune_alone(args, args.seeds[0])
        return
    before = machine()
    seeds = {str(seed): measure_seed(args, seed) for seed in args.seeds}
    alone = [sys.executable, __file__, "--memory", "--runs", str(args.runs)]
    alone += ["--per-axis", str(args.per_axis), "--seeds", str(args.seeds[0])]
    told = subprocess.run(alone, check=True, capture_output=True, text=True).stdout
    names = next(iter(seeds.values()))
    means = {
        name: {key: mean(rows[name][key] for rows in seeds.values()) for key in names[name]}
        for name in names
    }
    memory = json.loads(told.splitlines()[-1])
    record = {"machine": before, "heldout": args.heldout, "trials": args.trials, "memory": memory}
    write_json(args.out, {**record, "means": means, "seeds": seeds})


if __name__ == "__main__":
    main()
