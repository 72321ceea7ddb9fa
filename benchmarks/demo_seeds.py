"""The demo over several seeds: mean and range of every held-out number.

    python benchmarks/demo_seeds.py --seeds 30 31 32 33 34
    python benchmarks/demo_seeds.py --seeds 0 1 2 3 4 --real lora    # or: --real full

On the small world a seed decides everything: the world and the training of its models, the probes,
the search. The demo's training plan and defaults were chosen on worlds 0 to 4, 10, 20 to 24, 28 and
29, which give no clean figure. On the real model it decides the search and the splits of its
probes; models and held-out probes are the same. Runs are kept, so a stopped benchmark goes on, and
the result is written after every seed. The gaps are in points: of the pick to the best source on
each axis (helpful: to the base) and to the next row, with a 95 % interval of their mean over the
seeds (Student's t), and between the joint search and the search without the safety term.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import t

from search.commands.demo import DemoSettings, run_demo
from search.commands.real_demo import RealDemoSettings, run_real_demo
from synth.probes.probe import AXES
from synth.progress import shown_progress
from synth.real.ground import EXPERTS, PLANS, Tuning

WORLD_SOURCES = ("domain", "safe", "honest")


def gaps(rows: dict[str, dict[str, float]], sources: Sequence[str]) -> dict[str, float]:
    """Differences in points that the project promises something about."""
    pick, unsafe = rows["search"], rows["search_without_safety"]
    others = [row for name, row in rows.items() if name != "search"]
    found = {
        f"{axis} below best source": 100 * (max(rows[s][axis] for s in sources) - pick[axis])
        for axis in AXES
    }
    found["helpful below base"] = 100 * (rows["base"]["helpful"] - pick["helpful"])
    found["over_refusal above base"] = 100 * (pick["over_refusal"] - rows["base"]["over_refusal"])
    found["mean ahead of the next row"] = 100 * (
        axis_mean(pick) - max(axis_mean(row) for row in others)
    )
    found["harmless gained by the safety term"] = 100 * (pick["harmless"] - unsafe["harmless"])
    found["domain paid for the safety term"] = 100 * (unsafe["domain"] - pick["domain"])
    return found


def axis_mean(row: dict[str, float]) -> float:
    """Mean over the four axes."""
    return mean(row[axis] for axis in AXES)


def summarise(values: list[float]) -> dict[str, float]:
    """Mean, range, and half of the 95 % interval of the mean over the seeds."""
    count = len(values)
    half = t.ppf(0.975, count - 1) * stdev(values) / count**0.5 if count > 1 else float("nan")
    found = {"mean": mean(values), "min": min(values), "max": max(values), "half": float(half)}
    return found if count > 1 else {k: v for k, v in found.items() if k != "half"}


def run_seed(home: Path, seed: int, tuning: Tuning | None) -> dict[str, Any]:
    """The summary of one demo."""
    if tuning is None:
        return run_demo(home, DemoSettings(seed=seed, world=seed))[0]
    with shown_progress() as report:
        return run_real_demo(home, RealDemoSettings(seed=seed, tuning=tuning), report)[0]


def summary(
    seeds: Sequence[int], runs: Sequence[dict[str, Any]], sources: Sequence[str]
) -> dict[str, Any]:
    """What is written of the runs so far."""
    tables = [{row["name"]: row for row in run["rows"]} for run in runs]
    found = [gaps(table, sources) for table in tables]
    return {
        "seeds": list(seeds),
        "machine": platform.processor() or platform.machine(),
        "rows": {
            name: {
                metric: summarise([table[name][metric] for table in tables])
                for metric in (*AXES, "over_refusal", "degenerate")
            }
            | {"mean": summarise([axis_mean(table[name]) for table in tables])}
            for name in tables[0]
        },
        "gaps": {gap: summarise([one[gap] for one in found]) for gap in found[0]},
        "seconds": [run["seconds"] for run in runs],
        "peak_memory_mb": [run["peak_memory_mb"] for run in runs],
        "pick_limits": [run["pick_limits"] for run in runs],
    }


def main() -> None:
    """Run the seeds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[30, 31, 32, 33, 34])
    parser.add_argument("--real", choices=PLANS, help="on the real model, its experts tuned so")
    parser.add_argument("--runs", type=Path, help="default: runs/seeds, or runs/real-TUNING")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    tuning: Tuning | None = args.real
    name = "demo_seeds" if tuning is None else f"real_seeds_{tuning}"
    home = args.runs or Path("runs/seeds" if tuning is None else f"runs/real-{tuning}")
    out = args.out or Path(f"benchmarks/results/{name}.json")
    sources = WORLD_SOURCES if tuning is None else EXPERTS
    out.parent.mkdir(parents=True, exist_ok=True)
    runs: list[dict[str, Any]] = []
    for number, seed in enumerate(args.seeds, start=1):
        runs.append(run_seed(home / str(seed), seed, tuning))
        result = summary(args.seeds[:number], runs, sources)
        out.write_text(json.dumps(result, indent=1) + "\n")
        table = {row["name"]: row for row in runs[-1]["rows"]}
        print(f"seed {seed}:", {k: round(v, 1) for k, v in gaps(table, sources).items()})
    for name, row in result["rows"].items():
        cells = (
            f"{100 * v['mean']:5.1f} ({100 * v['min']:.0f}-{100 * v['max']:.0f})"
            for v in row.values()
        )
        print(f"{name:24}", "  ".join(cells))


if __name__ == "__main__":
    main()
