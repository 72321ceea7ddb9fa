"""What a trial's merge costs against merging from nothing.

    python benchmarks/trial_cost.py --mergekit mk/bin/mergekit-yaml --out result.json

- task_arithmetic: `apply` of a recipe with other weights, against a whole merge as a process of its
  own, by mergekit and by us, on the models of merge_vs_mergekit.py.
- resm: `apply` of a recipe with other weights and other ranks for every matrix, against TSV-M from
  nothing: T full SVDs of the deltas of every matrix and one of the concatenated vectors of each
  side. On one layer of those models, since every layer costs the same. Ranks are drawn as a search
  draws them, log-uniform between 2 and 100 percent, and held at single ratios beside that: the cost
  grows with their square, and near 1 / T, where all vectors together fill the space, trials gain
  little over starting from nothing. Both are CPU seconds of all threads; start it with
  OMP_NUM_THREADS=1 to compare arithmetic with arithmetic.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from measure import machine, run_measured, spread, write_json
from merge_vs_mergekit import recipes
from random_models import SIZES, SOURCES, Size, write_models
from torch import Tensor

from safemerge import ModelRef, Recipe, ResidentMerge
from safemerge.inputs import Inputs, open_inputs

RATIOS = (0.05, 0.1, 0.2, 1 / 3)
_ONE_LAYER = {
    "tiny": Size(layers=1, width=64, inner=160, vocabulary=128),
    "350m": Size(layers=1, width=1024, inner=2816, vocabulary=128),
}


def recipe(models: Path, method: str, draw: random.Random, ratios: Sequence[float]) -> Recipe:
    """A recipe with a weight for every source and module, and a rank ratio for every module.

    Args:
        models: folder of base and sources.
        method: a merge method.
        draw: source of the numbers.
        ratios: (low, high) of the rank ratio, drawn log-uniform; empty for none.
    """
    refs = [ModelRef(name=name, path=str(models / name)) for name in ("base", *SOURCES)]
    plain = Recipe(
        base=refs[0], sources=tuple(refs[1:]), method=method, places="modules", weights={"all": {}}
    )
    groups = sorted(set(open_inputs(plain).groups("modules").values()))
    weights = {group: {name: draw.uniform(0.0, 1.5) for name in SOURCES} for group in groups}
    ranks = {group: math.exp(draw.uniform(*map(math.log, ratios))) for group in groups if ratios}
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
        "safemerge": [sys.executable, "-m", "search.cli", "merge", file, "--out", out]
    }
    if mergekit is not None:
        commands["mergekit"] = [mergekit, file, out]
    whole = {}
    for name, command in commands.items():
        shutil.rmtree(out, ignore_errors=True)
        whole[name] = run_measured(command).wall_s
    shutil.rmtree(out)
    draw = random.Random(0)
    changed = [recipe(models, "task_arithmetic", draw, ()) for _ in range(repeats + 1)]
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


def resm(models: Path, repeats: int) -> dict[str, Any]:
    """CPU seconds of `apply` at several ranks, and of TSV-M with full SVDs."""
    draw = random.Random(0)
    searched = [recipe(models, "resm", draw, (0.02, 1.0)) for _ in range(repeats + 1)]
    inputs = open_inputs(searched[0])
    begin = time.perf_counter()
    resident = ResidentMerge(searched[0], inputs=inputs)
    prepare_s = time.perf_counter() - begin
    live = base_tensors(inputs)
    clock = time.process_time
    applied = {"searched": apply_seconds(resident, live, searched, clock)}
    for ratio in RATIOS:
        # A ratio that differs in the last digits is another one to everything that remembers.
        near = (ratio * (1 - 1e-6), ratio)
        fixed = [recipe(models, "resm", draw, near) for _ in range(repeats + 1)]
        applied[f"ratio {ratio:.2f}"] = apply_seconds(resident, live, fixed, clock)
    scratch_s = seconds(lambda: tsvm_from_nothing(inputs), clock)
    return {
        "prepare_s": prepare_s,
        "apply_s": applied,
        "tsvm_with_full_svds_s": scratch_s,
        "ratio": {name: scratch_s / found["median"] for name, found in applied.items()},
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
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    models = args.models.resolve() / args.size
    one_layer = models.with_name(f"{args.size}-one-layer")
    write_models(models, SIZES[args.size])
    write_models(one_layer, _ONE_LAYER[args.size])
    record = {"machine": machine(), "size": args.size, "threads": torch.get_num_threads()}
    record["task_arithmetic"] = task_arithmetic(models, args.mergekit, args.repeats)
    print(json.dumps(record["task_arithmetic"], indent=1), flush=True)
    record["resm"] = resm(one_layer, args.repeats)
    print(json.dumps(record["resm"], indent=1))
    write_json(args.out, record)


if __name__ == "__main__":
    main()
