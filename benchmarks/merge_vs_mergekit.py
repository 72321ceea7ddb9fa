"""safemerge against mergekit: the same merges, whole processes, in alternation.

    python3 -m venv mk && mk/bin/pip install mergekit==0.1.5
    python benchmarks/merge_vs_mergekit.py --mergekit mk/bin/mergekit-yaml --out result.json

A base and three sources of 0.34 B parameters in bfloat16 are made once in --models. Each method
runs with both programs, which read the same file; wall, CPU and peak memory (largest resident set,
mapped pages included) are those of the whole process, start-up of Python included. Ratios are
mergekit's number divided by ours, repeat by repeat. Where the method draws no random numbers, the
two merged models are compared: mergekit computes in bfloat16 and we in float32, so single roundings
differ.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from measure import Usage, machine, run_measured, spread, write_json

HERE = Path(__file__).parent
SEEDED = frozenset({"dare_linear", "dare_ties", "della"})
_WEIGHTS = {"a": 0.5, "b": 0.3, "c": 0.4}


def recipes(models: Path) -> dict[str, dict[str, Any]]:
    """mergekit recipes of every method that both programs have: `{name: content of the YAML}`."""

    def recipe(method: str, base: bool = True, **numbers: float) -> dict[str, Any]:
        entries = [
            {"model": str(models / name), "parameters": {"weight": weight, **numbers}}
            for name, weight in _WEIGHTS.items()
        ]
        head = {"base_model": str(models / "base")} if base else {}
        return {"merge_method": method, **head, "models": entries, "dtype": "bfloat16"}

    slerp = recipe("slerp") | {"parameters": {"t": 0.35}}
    slerp["models"] = [{"model": str(models / name)} for name in ("base", "a")]
    return {
        "linear": recipe("linear", base=False),
        "task_arithmetic": recipe("task_arithmetic"),
        "model_stock": recipe("model_stock"),
        "slerp": slerp,
        "dare_linear": recipe("dare_linear", density=0.5),
        "dare_ties": recipe("dare_ties", density=0.5),
        "karcher": recipe("karcher", base=False),
        "sce": recipe("sce") | {"parameters": {"select_topk": 0.5}},
        "breadcrumbs": recipe("breadcrumbs", density=0.5, gamma=0.01),
        "ties": recipe("ties", density=0.5),
        "della": recipe("della", density=0.5, epsilon=0.1),
    }


def compare(methods: Sequence[str], models: Path, mergekit: Path | None, repeats: int) -> Any:
    """Run every method with both programs.

    Args:
        methods: names in `recipes`.
        models: folder of the models; merged ones are written into it and removed.
        mergekit: the program `mergekit-yaml`, or None to measure safemerge alone.
        repeats: runs of each; which program goes first changes with each repeat.

    Returns:
        `{method: {"safemerge": [...], "mergekit": [...], "ratio": {...}, "difference": {...}}}`.
    """
    ours = [sys.executable, "-m", "search.cli.app", "merge"]
    found: dict[str, Any] = {}
    for method in methods:
        file = models / f"{method}.yml"  # JSON is YAML too
        file.write_text(json.dumps(recipes(models)[method], indent=1), encoding="utf-8")
        outs = {name: models / f"merged-{name}" for name in ("safemerge", "mergekit")}
        commands: dict[str, list[str | Path]] = {
            "safemerge": [*ours, file, "--out", outs["safemerge"]]
        }
        if mergekit is not None:
            commands["mergekit"] = [mergekit, file, outs["mergekit"]]
        runs: dict[str, list[Usage]] = {name: [] for name in commands}
        difference = None
        for repeat in range(repeats):
            order = sorted(commands, reverse=repeat % 2 == 0)
            for name in order:
                shutil.rmtree(outs[name], ignore_errors=True)
                runs[name].append(run_measured(commands[name]))
                print(f"{method:16s} {name:10s} {line(runs[name][-1])}", flush=True)
        if mergekit is not None and method not in SEEDED:
            difference = differing(outs["safemerge"], outs["mergekit"])
        for out in outs.values():
            shutil.rmtree(out, ignore_errors=True)
        found[method] = {name: [asdict(run) for run in runs[name]] for name in runs}
        if mergekit is not None:
            found[method]["ratio"] = ratios(runs["mergekit"], runs["safemerge"])
            found[method]["difference"] = difference
            print(f"{method:16s} ratio      {ratio_line(found[method]['ratio'])}", flush=True)
    return found


def ratios(theirs: Sequence[Usage], ours: Sequence[Usage]) -> dict[str, dict[str, float]]:
    """Spread of theirs / ours over the repeats, for wall, CPU and peak memory."""
    pairs = [(asdict(a), asdict(b)) for a, b in zip(theirs, ours, strict=True)]
    return {key: spread([a[key] / b[key] for a, b in pairs]) for key in pairs[0][0]}


def differing(ours: Path, theirs: Path) -> dict[str, float]:
    """Largest difference of two merged models and the share of entries that differ."""
    # A process of its own: this one must stay small (see measure.py).
    command = [sys.executable, HERE / "differing.py", ours, theirs]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    found: dict[str, float] = json.loads(said)
    return found


def line(run: Usage) -> str:
    """One run, for people."""
    return f"{run.wall_s:7.2f} s wall {run.cpu_s:7.2f} s CPU {run.peak_mib:6.0f} MiB"


def ratio_line(ratio: dict[str, dict[str, float]]) -> str:
    """Median ratios, for people."""
    wall, cpu, peak = (ratio[key]["median"] for key in ("wall_s", "cpu_s", "peak_mib"))
    return f"{wall:6.2f} x wall {cpu:6.2f} x CPU  {peak:5.2f} x memory"


def main() -> None:
    """Make the models, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mergekit", type=Path, help="mergekit-yaml; left out: safemerge alone")
    parser.add_argument("--models", type=Path, default=Path("runs/benchmark-models"))
    parser.add_argument("--size", default="350m", help="tiny or 350m")
    parser.add_argument("--methods", nargs="+", default=list(recipes(Path())))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    models = args.models.resolve() / args.size
    subprocess.run(
        [sys.executable, HERE / "random_models.py", models, "--size", args.size], check=True
    )
    record = {"machine": machine(), "size": args.size}
    record["methods"] = compare(args.methods, models, args.mergekit, args.repeats)
    write_json(args.out, record)


if __name__ == "__main__":
    main()
