"""The demo over several seeds: mean and range of every held-out number.

    python benchmarks/demo_seeds.py --seeds 30 31 32 33 34

A seed decides everything: the world and the training of its models, the probes, the search. The
demo's training plan and defaults were chosen on worlds 0 to 4, 10, 20 to 24, 28 and 29, which give
no clean figure. Runs are kept in runs/seeds/SEED, so a stopped benchmark goes on. The gaps are in
points: of the pick to the best source on each axis, and between the joint search and the search
without the safety term.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from statistics import mean
from typing import Any

from search.commands.demo import DemoSettings, run_demo
from synth.probes.probe import AXES

SOURCES = ("domain", "safe", "honest")


def gaps(rows: dict[str, dict[str, float]]) -> dict[str, float]:
    """Differences in points that the project promises something about."""
    pick, unsafe = rows["search"], rows["search_without_safety"]
    others = [row for name, row in rows.items() if name != "search"]
    found = {
        f"{axis} below best source": 100 * (max(rows[s][axis] for s in SOURCES) - pick[axis])
        for axis in AXES
    }
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
    """Mean and range."""
    return {"mean": mean(values), "min": min(values), "max": max(values)}


def main() -> None:
    """Run the seeds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[30, 31, 32, 33, 34])
    parser.add_argument("--runs", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/demo_seeds.json"))
    args = parser.parse_args()
    tables: list[dict[str, dict[str, float]]] = []
    for seed in args.seeds:
        summary, _ = run_demo(args.runs / str(seed), DemoSettings(seed=seed, world=seed))
        table = {row["name"]: row for row in summary["rows"]}
        tables.append(table)
        print(f"seed {seed}:", {k: round(v, 1) for k, v in gaps(table).items()}, flush=True)
    result: dict[str, Any] = {
        "seeds": args.seeds,
        "machine": platform.processor() or platform.machine(),
        "rows": {
            name: {
                metric: summarise([table[name][metric] for table in tables])
                for metric in (*AXES, "over_refusal", "degenerate")
            }
            | {"mean": summarise([axis_mean(table[name]) for table in tables])}
            for name in tables[0]
        },
        "gaps": {gap: summarise([gaps(table)[gap] for table in tables]) for gap in gaps(tables[0])},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, row in result["rows"].items():
        cells = (
            f"{100 * v['mean']:5.1f} ({100 * v['min']:.0f}-{100 * v['max']:.0f})"
            for v in row.values()
        )
        print(f"{name:24}", "  ".join(cells))


if __name__ == "__main__":
    main()
