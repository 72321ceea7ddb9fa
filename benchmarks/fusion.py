"""A mixture of the sources of finished demos beside these and the best merges of the same probes.

    python benchmarks/demo_seeds.py --seeds 30 31 32 33 34
    python benchmarks/fusion.py runs/seeds/3?

Base, sources, merges, and the search's pick stand in the table as the demo measured them. Beside
them, trained on the same search probes and measured on the same held-out ones by replies, are the
mixture, and it again with one thing changed:

    no gating loss, no regulariser    weight 0
    frozen router                     random as it was drawn
    identical experts                 each the base with all deltas added, as in the released code
    top 1, top 3                      experts of a token
    anchor uniform, anchor search     attention, norms and embeddings of a merge

Finished rows are kept in WORK, so that a stopped benchmark goes on. Peak memory is that of a
process of its own that tunes the first run's mixture.
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

from measure import machine, write_json

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
from search.results.run import Run
from search.runs.probe_sets import load_probes, probe_judge
from search.runs.workbench import recipe_template
from search.scoring.generation import score_generations
from synth.engines.loading import load_tokenizer, quiet
from synth.engines.template import open_template
from synth.engines.transformers import TransformersEngine
from synth.probes.probe import AXES

SOURCES = ("domain", "safe", "honest")
EXPERTS = {"domain": 0, "harmless": 1, "honest": 2}
SECTION = FusionConfig(experts={"domain": "domain", "harmless": "safe", "honest": "honest"})
LOSS = FusionLoss(SECTION.gating, SECTION.gammas(SOURCES))
SHOWN = (*AXES, "over_refusal")


class World:
    """One finished run: its models, probes, judge and pick."""

    def __init__(self, run: Path, work: Path) -> None:
        self.run = Run.load(run)
        self.config = self.run.config
        self.home = work.absolute() / run.name
        self.home.mkdir(parents=True, exist_ok=True)
        self.template = recipe_template(self.config)
        self.tokenizer = load_tokenizer(self.config.models.base)
        probes = load_probes(self.config)
        self.heldout = probes.split("heldout").probes
        self.judge = probe_judge(self.config)
        chat = open_template(self.tokenizer, self.config.models.chat)
        limit = open_inputs(self.template).base.config["max_position_embeddings"]
        self.learned = probe_examples(chat, probes.split("search").probes, EXPERTS, limit)
        self.asked = probe_examples(chat, self.heldout, EXPERTS)

    def rates(self, model: Any) -> dict[str, float]:
        engine = TransformersEngine(model, tokenizer=self.tokenizer)
        length = self.config.probes.max_tokens
        scores, _ = score_generations(engine, self.heldout, self.judge, max_tokens=length)
        return with_mean({metric: scores[metric].value for metric in SHOWN})

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

    def tuned(
        self,
        recipe: Recipe | None = None,
        plan: MixturePlan = MixturePlan(),  # noqa: B008  # frozen
        loss: FusionLoss = LOSS,
        frozen_router: bool = False,
    ) -> tuple[Any, float]:
        """A mixture of the sources, or of a recipe's, and its last answer loss."""
        seed = self.config.seed
        schedule = Schedule(SECTION.steps, SECTION.batch, SECTION.lr, seed, save_steps=10**6)
        with quiet(), tempfile.TemporaryDirectory() as folder:
            model = build_mixture(open_inputs(recipe or self.template), replace(plan, seed=seed))
            history = tune_mixture(
                *(model, self.learned, loss, schedule, Path(folder)), frozen_router=frozen_router
            )
        return model, history[-1]["lm"]

    def mixture(self, **changes: Any) -> dict[str, float]:
        """Rates of a mixture with what `tuned` may change."""
        begin = time.monotonic()
        model, loss = self.tuned(**changes)
        seconds = round(time.monotonic() - begin, 1)
        accuracy = gating_accuracy(routes(model, self.asked), self.asked)
        assert accuracy is not None  # three axes have an expert
        told = {"gating_accuracy": accuracy, "seconds": seconds, "lm": loss}
        return {**self.rates(model), **told}


def with_mean(row: dict[str, float]) -> dict[str, float]:
    return {**row, "mean": mean(row[axis] for axis in AXES)}


def hash_of(recipe: Recipe) -> str:
    import hashlib

    return hashlib.sha256(recipe.canonical_json().encode()).hexdigest()[:12]


def rows_of(world: World) -> dict[str, Callable[[], dict[str, float]]]:
    """The mixture, and it with one thing changed."""
    average, pick = uniform(world.template), world.run.pick().recipe
    return {
        "mixture": world.mixture,
        "no gating loss": lambda: world.mixture(loss=replace(LOSS, gating=0.0)),
        "no regulariser": lambda: world.mixture(loss=replace(LOSS, gammas=())),
        "frozen router": lambda: world.mixture(frozen_router=True),
        "identical experts": lambda: world.mixture(recipe=world.identical()),
        "top 1": lambda: world.mixture(plan=MixturePlan(top_k=1)),
        "top 3": lambda: world.mixture(plan=MixturePlan(top_k=3)),
        "anchor uniform": lambda: world.mixture(plan=MixturePlan(anchor=average)),
        "anchor search": lambda: world.mixture(plan=MixturePlan(anchor=pick)),
    }


def measure_run(args: argparse.Namespace, run: Path) -> dict[str, dict[str, float]]:
    """All rows of one run."""
    world = World(run, args.work)
    heldout = world.run.heldout()
    if heldout is None:
        sys.exit(f"{run} has no held-out table; finish the demo first")
    found = {
        name: with_mean({metric: score.value for metric, score in row.items() if metric in SHOWN})
        for name, row in heldout.rows.items()
    }
    for name, make in rows_of(world).items():
        if args.rows and name not in args.rows:
            continue
        kept = world.home / f"{name.replace(' ', '-')}.json"
        if not kept.exists():
            kept.write_text(json.dumps(make()))
        found[name] = json.loads(kept.read_text())
        print(f"{run}, {name}: {json.dumps(found[name])}", flush=True)
    return found


def tune_alone(run: Path, work: Path) -> None:
    """Print the memory that is stated for a mixture, and that which this process took."""
    world = World(run, work)
    stated = fusion_memory(open_inputs(world.template), world.learned, SECTION, used_by_process())
    world.tuned()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"stated": stated.total, "peak": peak}))


def main() -> None:
    """Measure the runs and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="finished demos")
    parser.add_argument("--work", type=Path, default=Path("runs/fusion"))
    parser.add_argument("--rows", nargs="*", help="measure these alone")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fusion.json"))
    args = parser.parse_args()
    if args.memory:
        tune_alone(args.runs[0], args.work)
        return
    before = machine()
    runs = {run.name: measure_run(args, run) for run in args.runs}
    alone = [sys.executable, __file__, str(args.runs[0]), "--memory", "--work", str(args.work)]
    told = subprocess.run(alone, check=True, capture_output=True, text=True).stdout
    means = {
        name: {key: mean(rows[name][key] for rows in runs.values()) for key in row}
        for name, row in next(iter(runs.values())).items()
    }
    memory = json.loads(told.splitlines()[-1])
    write_json(args.out, {"machine": before, "memory": memory, "means": means, "runs": runs})


if __name__ == "__main__":
    main()
