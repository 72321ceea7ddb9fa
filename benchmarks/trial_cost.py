"""What a trial's merge costs against merging from nothing.

    python benchmarks/trial_cost.py --mergekit mk/bin/mergekit-yaml --out result.json

- task_arithmetic: `apply` of a recipe with other weights, against a whole merge as a process of its
  own, by mergekit and by us, on the models of merge_vs_mergekit.py.
- resm: a search's trials, each with other weights and a rank ratio for every matrix, drawn from
  those that a search has, against TSV-M from nothing: T full SVDs of the deltas of every matrix and
  one of the concatenated vectors of each side. On one layer of those models, since every layer
  costs the same. A ratio is dear when a matrix has it for the first time, and the more so the
  higher it is: what comes of it is kept for the trials that come back to it. So the whole search is
  compared, a trial at its end, and single ratios that nothing was kept of. All are CPU seconds of
  all threads; start it with OMP_NUM_THREADS=1 to compare arithmetic with arithmetic.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from measure import machine, run_measured, spread, write_json
from merge_vs_mergekit import recipes
from random_models import SIZES, SOURCES, Size, write_models
from torch import Tensor

from safemerge import ModelRef, Recipe, ResidentMerge
from safemerge.inputs import Inputs, open_inputs
from safemerge.store import TensorStore
from search.config import SpaceConfig
from search.space.space import RANK_RATIOS

RATIOS = (0.05, 0.1, 0.2, 1 / 3)
_ONE_LAYER = {
    "tiny": Size(layers=1, width=64, inner=160, vocabulary=128),
    "350m": Size(layers=1, width=1024, inner=2816, vocabulary=128),
}


def recipe(models: Path, method: str, draw: random.Random, ratios: Sequence[float] = ()) -> Recipe:
    """A recipe with a weight for every source and module, and a rank ratio for every module.

    Args:
        models: folder of base and sources.
        method: a merge method.
        draw: source of the numbers.
        ratios: rank ratios to draw from; empty for none.
    """
    refs = [ModelRef(name=name, path=str(models / name)) for name in ("base", *SOURCES)]
    plain = Recipe(
        base=refs[0], sources=tuple(refs[1:]), method=method, places="modules", weights={"all": {}}
    )
    groups = sorted(set(open_inputs(plain).groups("modules").values()))
    weights = {group: {name: draw.uniform(0.0, 1.5) for name in SOURCES} for group in groups}
    ranks = {group: draw.choice(ratios) for group in groups if ratios}
    return plain.model_copy(update={"weights": weights, "rank_ratio": ranks})


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """What one call takes by a clock."""
    begin = clock()
    work()
    return clock() - begin


def apply_seconds(
    resident: ResidentMerge,
    live: dict[str, Tensor],
    recipes: Sequence[Recipe],
    clock: Callable[[], float],
) -> dict[str, float]:
    """Spread of the seconds that `apply` takes over recipes, after one that does not count."""
    resident.apply(recipes[0], live)
    took = [seconds(lambda one=one: resident.apply(one, live), clock) for one in recipes[1:]]
    return spread(took)


def base_tensors(inputs: Inputs) -> dict[str, Tensor]:
    """What stands for a live model: the base's merged tensors."""
    return {name: inputs.base.load(name) for name in inputs.merged_names}


def task_arithmetic(models: Path, mergekit: Path | None, repeats: int) -> dict[str, Any]:
    """Seconds of `apply`, and of whole merges as processes."""
    file = models / "task_arithmetic.yml"
    file.write_text(json.dumps(recipes(models)["task_arithmetic"]), encoding="utf-8")
    out = models / "merged"
    commands: dict[str, list[str | Path]] = {
        "safemerge": [sys.executable, "-m", "search.cli.app", "merge", file, "--out", out]
    }
    if mergekit is not None:
        commands["mergekit"] = [mergekit, file, out]
    whole = {}
    for name, command in commands.items():
        shutil.rmtree(out, ignore_errors=True)
        whole[name] = run_measured(command).wall_s
    shutil.rmtree(out)
    draw = random.Random(0)
    changed = [recipe(models, "task_arithmetic", draw) for _ in range(repeats + 1)]
    inputs = open_inputs(changed[0])
    begin = time.perf_counter()
    resident = ResidentMerge(changed[0], inputs=inputs)
    prepare_s = time.perf_counter() - begin
    applied = apply_seconds(resident, base_tensors(inputs), changed, time.perf_counter)
    return {
        "prepare_s": prepare_s,
        "apply_s": applied,
        "whole_merge_s": whole,
        "ratio": {name: whole[name] / applied["median"] for name in whole},
    }


def resm(models: Path, trials: int, repeats: int) -> dict[str, Any]:
    """CPU seconds of a search's applies, of single ones, and of TSV-M with full SVDs."""
    draw = random.Random(0)
    ratios = np.geomspace(*SpaceConfig().rank_ratio, RANK_RATIOS).tolist()
    searched = [recipe(models, "resm", draw, ratios) for _ in range(trials)]
    inputs = open_inputs(searched[0])
    clock = time.process_time
    live = base_tensors(inputs)
    with TemporaryDirectory(dir=models) as folder:
        begin = time.perf_counter()
        resident = ResidentMerge(searched[0], inputs=inputs, store=TensorStore(Path(folder)))
        prepare_s = time.perf_counter() - begin
        took = [seconds(partial(resident.apply, one, live), clock) for one in searched]
        kept_gb = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e9
    forgetful = ResidentMerge(searched[0], inputs=inputs)
    new = {}
    for ratio in RATIOS:
        # A ratio that differs in the last digits is another one to what remembers the last.
        near = [ratio * (1 - 1e-6 * i) for i in range(repeats + 1)]
        fixed = [recipe(models, "resm", draw, [one]) for one in near]
        new[f"new ratio {ratio:.2f}"] = apply_seconds(forgetful, live, fixed, clock)
    scratch_s = seconds(lambda: tsvm_from_nothing(inputs), clock)
    at_the_end = spread(took[-(trials // 3) :])
    return {
        "prepare_s": prepare_s,
        "trials": trials,
        "all_trials_s": sum(took),
        "kept_gb": kept_gb,
        "apply_s": {"last third": at_the_end, **new},
        "tsvm_with_full_svds_s": scratch_s,
        "ratio": {
            "all trials": trials * scratch_s / sum(took),
            "last third": scratch_s / at_the_end["median"],
            **{name: scratch_s / found["median"] for name, found in new.items()},
        },
    }


def tsvm_from_nothing(inputs: Inputs) -> None:
    """TSV-M of every matrix as its paper computes it: SVDs of deltas, SVDs as polar factors."""
    for name in inputs.merged_names:
        if inputs.role(name) != "matrix":
            continue
        base, deltas = inputs.load(name)
        kept = min(base.shape) // len(deltas)
        parts = [torch.linalg.svd(delta, full_matrices=False) for delta in deltas]
        left, _, left_h = torch.linalg.svd(
            torch.cat([u[:, :kept] for u, _, _ in parts], dim=1), full_matrices=False
        )
        right, _, right_h = torch.linalg.svd(
            torch.cat([vh[:kept] for _, _, vh in parts], dim=0), full_matrices=False
        )
        values = torch.cat([s[:kept] for _, s, _ in parts])
        base += ((left @ left_h) * values) @ (right @ right_h)


def main() -> None:
    """Make the models, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mergekit", type=Path, help="mergekit-yaml; left out: safemerge alone")
    parser.add_argument("--models", type=Path, default=Path("runs/benchmark-models"))
    parser.add_argument("--size", choices=SIZES, default="350m")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trials", type=int, default=300, help="of the search with RESM")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    models = args.models.resolve() / args.size
    one_layer = models.with_name(f"{args.size}-one-layer")
    write_models(models, SIZES[args.size])
    write_models(one_layer, _ONE_LAYER[args.size])
    record = {"machine": machine(), "size": args.size, "threads": torch.get_num_threads()}
    record["task_arithmetic"] = task_arithmetic(models, args.mergekit, args.repeats)
    print(json.dumps(record["task_arithmetic"], indent=1), flush=True)
    record["resm"] = resm(one_layer, args.trials, args.repeats)
    print(json.dumps(record["resm"], indent=1))
    write_json(args.out, record)


if __name__ == "__main__":
    main()
