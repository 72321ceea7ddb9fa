"""How many probes does a search need? Held-out scores of the pick against probes for each axis.

    python benchmarks/probes_needed.py --seeds 30 31 32 33 34

The demo's search on small worlds, with the first 16, 32, 64 and all 128 written probes of each axis
(a fifth of them for validation, as ever). "gap" is the likelihood of the wanted answers on search
probes minus that on held-out ones, as a share; "mean" is the share of right held-out answers, over
the axes. Probes are written once for a seed, runs are kept in runs/probes_needed/SEED/COUNT, so a
stopped benchmark goes on, and a finished one only reads.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from demo_seeds import axis_mean, summarise

from search.commands.demo import PER_AXIS, demo_config
from search.commands.search_and_measure import search_and_measure
from search.commands.write_probes import write_probes
from search.scoring.generalization_gap import MEAN
from synth.probes.probe import AXES, ProbeSet
from synth.zoo import Zoo, ZooSpec, build_zoo
from synth.zoo.world import World


def subset(probes: ProbeSet, count: int) -> ProbeSet:
    """The first `count` probes of every axis; fewer where an axis has fewer."""
    return ProbeSet(tuple(p for axis in AXES for p in probes.axis(axis).probes[:count]))


def one_seed(zoo: Zoo, home: Path, seed: int, counts: list[int], trials: int) -> dict[str, Any]:
    """`{count: held-out scores of the pick}` of one world."""
    home.mkdir(parents=True, exist_ok=True)
    whole = demo_config(zoo, home, seed=seed, device="cpu", trials=trials)
    write_probes(whole, terms=World(zoo.seed).terms)
    probes = ProbeSet.from_jsonl(whole.probes.path)
    rows = {}
    for count in counts:
        folder = home / str(count)
        folder.mkdir(exist_ok=True)
        config = demo_config(zoo, folder, seed=seed, device="cpu", trials=trials)
        if not Path(config.probes.path).exists():
            subset(probes, count).to_jsonl(Path(config.probes.path))
        found = search_and_measure(config, folder).heldout
        row = {axis: found.rows["search"][axis].value for axis in AXES}
        gap = found.gap[found.pick][MEAN].value
        rows[str(count)] = row | {"mean": axis_mean(row), "gap": gap}
    return rows


def main() -> None:
    """Run the seeds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[30, 31, 32, 33, 34])
    parser.add_argument("--counts", type=int, nargs="+", default=[16, 32, 64, PER_AXIS])
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--width", type=int, default=128, help="hidden size of the models")
    parser.add_argument("--effort", type=float, default=1.0, help="factor on their training")
    parser.add_argument("--zoo", type=Path, default=Path("runs/probes_needed/zoo"))
    parser.add_argument("--runs", type=Path, default=Path("runs/probes_needed"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/probes_needed.json"))
    args = parser.parse_args()
    seeds: dict[str, dict[str, Any]] = {}
    for seed in args.seeds:
        zoo = build_zoo(args.zoo, ZooSpec(width=args.width, seed=seed, effort=args.effort))
        start = time.process_time()
        seeds[str(seed)] = one_seed(zoo, args.runs / str(seed), seed, args.counts, args.trials)
        print(f"seed {seed}: {time.process_time() - start:.0f} CPU s of this process", flush=True)
    columns = (*AXES, "mean", "gap")
    table = {
        str(count): {c: summarise([row[str(count)][c] for row in seeds.values()]) for c in columns}
        for count in args.counts
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"trials": args.trials, "table": table, "seeds": seeds}) + "\n")
    print("probes an axis  " + "  ".join(f"{column:>18}" for column in columns))
    for count, row in table.items():
        cells = (
            f"{100 * v['mean']:6.1f} ({100 * v['min']:.0f} to {100 * v['max']:.0f})".rjust(18)
            for v in row.values()
        )
        print(f"{count:14}  " + "  ".join(cells))


if __name__ == "__main__":
    main()
