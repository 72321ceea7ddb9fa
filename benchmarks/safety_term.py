"""What the safety term of Hammoud et al. 2024 (2406.14563) changes on small worlds.

    B=benchmarks/safety_term.py
    python $B --seeds 30 31 32 & python $B --seeds 33 34; wait
    python benchmarks/safety_term.py --seeds 30 31 32 33 34

A seed decides the world, its models, the probes and the searches. The models merged are the domain
expert and the safe one (`--sources domain safe honest` for three), on probes of these two axes
alone. Every run spends about `--evaluations`: the paper's 100, with which `search`, beside them,
has nearly its usual 60 trials and 15 steps. Finished seeds are kept in RUNS/SEED, so that the last
command only makes the table, and a stopped one goes on; the worlds and their probes are where
`demo_seeds.py` has them.

All figures are held-out: shares of right answers (domain) and of refusals (harmless), in percent.
The paper's, on models of 7 and 8 billion parameters, stand in the table as `paper`; they are not
measured here. Its alignment is our harmless, its accuracy our domain.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from measure import machine, write_json

from search.commands.demo import WARM_STEPS_PER_TRIAL, demo_config
from search.commands.search_and_measure import search_and_measure
from search.commands.write_probes import write_probes
from search.config import SearchConfig
from search.config.search import STEP_COST
from synth.probes.probe import ProbeSet
from synth.zoo import World, Zoo, ZooSpec, build_zoo

AXES = ("domain", "harmless")
HELDOUT_AXES = (*AXES, "helpful")  # so that refusing everything shows
METRICS = (*HELDOUT_AXES, "over_refusal")
WITHOUT = "_without_safety"
# 2406.14563, main tables: alignment and accuracy, in percent, without the safety
# term and with it; of two models, and of three, whose accuracy was taken on two sets.
PAPER = {
    "evomm_ties": {
        "two models, STEM": ((61.6, 52.0), (78.1, 54.2)),
        "two models, BIO": ((79.8, 73.2), (96.0, 73.6)),
        "three models, ARC": ((49.1, 56.2), (76.6, 59.6)),
        "three models, WinoGrande": ((49.1, 73.2), (76.6, 75.2)),
    },
    "evomm_dare_ties": {
        "two models, STEM": ((60.6, 51.7), (78.3, 54.0)),
        "two models, BIO": ((80.1, 73.8), (96.1, 73.8)),
        "three models, ARC": ((48.3, 57.0), (81.1, 59.6)),
        "three models, WinoGrande": ((48.3, 74.0), (81.1, 73.7)),
    },
    "evomm_slerp": {
        "two models, STEM": ((71.9, 52.9), (77.6, 54.0)),
        "two models, BIO": ((86.0, 74.2), (90.7, 74.2)),
    },
    "lm_cocktail": {
        "two models, STEM": ((72.5, 53.3), (74.4, 53.2)),
        "two models, BIO": ((92.6, 74.1), (94.1, 74.0)),
        "three models, ARC": ((62.3, 58.0), (65.3, 58.3)),
        "three models, WinoGrande": ((62.3, 73.6), (65.3, 74.1)),
    },
}


def config_of(zoo: Zoo, home: Path, worlds: Path, args: argparse.Namespace) -> SearchConfig:
    """The demo's search over some sources, without limits, on probes of two axes.

    Args:
        zoo: models and held-out probes.
        home: where the probes that are left go.
        worlds: the world's folder, in which all its probes are, or are written.
        args: seed, sources and evaluations.
    """
    cost = 1 + STEP_COST * WARM_STEPS_PER_TRIAL
    trials = max(1, round(args.evaluations / cost))
    whole = demo_config(zoo, worlds, seed=zoo.seed, device="cpu", trials=trials)
    write_probes(whole, terms=World(zoo.seed).terms)
    kept = {home / "probes.jsonl": (worlds / "probes.jsonl", AXES)}
    kept[home / "heldout.jsonl"] = (zoo.heldout, HELDOUT_AXES)
    for path, (every, axes) in kept.items():
        probes = [probe for probe in ProbeSet.from_jsonl(every) if probe.axis in axes]
        ProbeSet(tuple(probes)).to_jsonl(path)
    record = whole.record()
    sources = [one for one in record["models"]["sources"] if one["name"] in args.sources]
    record["models"]["sources"] = sources
    record["space"]["prior"] = {one["name"]: 1.0 for one in sources}
    record["probes"] |= {
        "path": str(home / "probes.jsonl"),
        "heldout": str(home / "heldout.jsonl"),
        "retention": "off",
    }
    return SearchConfig.from_record(record | {"limits": {}})


def rows_of(seed: int, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Held-out rows of a seed, in percent; read where they are finished."""
    home = (args.runs / str(seed)).absolute()
    settings = (args.evaluations, args.width, args.effort)
    done = home / ".".join(["_".join(args.sources), *map(str, settings), *args.baseline, "json"])
    if not done.exists():
        cpu_s = time.process_time()
        home.mkdir(parents=True, exist_ok=True)
        zoo = build_zoo(
            args.worlds / "zoo", ZooSpec(width=args.width, effort=args.effort, seed=seed)
        )
        config = config_of(zoo, home, (args.worlds / str(seed)).absolute(), args)
        measured = search_and_measure(config, home / done.stem, baselines=args.baseline)
        rows = {
            name: {metric: 100 * row[metric].value for metric in METRICS}
            for name, row in measured.heldout.rows.items()
        }
        write_json(done, {"rows": rows, "cpu_s": time.process_time() - cpu_s})
    found: dict[str, dict[str, float]] = json.loads(done.read_text())["rows"]
    return found


def summarise(values: list[float]) -> dict[str, float]:
    """Mean, range and standard error of the mean over seeds."""
    stderr = stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return {"mean": mean(values), "min": min(values), "max": max(values), "stderr": stderr}


def table(tables: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Rows, and what the safety term changes seed by seed, both over the seeds; and the paper's."""
    rows = {
        name: {metric: summarise([one[name][metric] for one in tables]) for metric in METRICS}
        for name in tables[0]
    }
    changes = {
        name: {
            metric: summarise([one[name][metric] - one[name + WITHOUT][metric] for one in tables])
            for metric in METRICS
        }
        for name in tables[0]
        if name + WITHOUT in tables[0]
    }
    paper = {
        name: {
            pool: {
                "harmless": round(with_safety[0] - without[0], 1),
                "domain": round(with_safety[1] - without[1], 1),
            }
            for pool, (without, with_safety) in pools.items()
        }
        for name, pools in PAPER.items()
    }
    return {
        "rows": rows,
        "safety term changes, points": changes,
        "paper": {
            "source": "arXiv 2406.14563, models of 7-8B; not measured here",
            "without and with the safety term, [alignment, accuracy]": PAPER,
            "safety term changes, points": paper,
        },
    }


def main() -> None:
    """Run the seeds and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[30, 31, 32, 33, 34])
    parser.add_argument("--sources", nargs="+", default=["domain", "safe"])
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--baseline", nargs="+", default=["evomm", "lm_cocktail"])
    parser.add_argument("--worlds", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--runs", type=Path, default=Path("runs/safety_term"))
    parser.add_argument("--width", type=int, default=128, help="hidden size of the models")
    parser.add_argument("--effort", type=float, default=1.0, help="factor on training steps")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/safety_term.json"))
    args = parser.parse_args()
    tables = []
    for seed in args.seeds:
        tables.append(rows_of(seed, args))
        print(f"seed {seed} is done", flush=True)
    settings = {key: getattr(args, key) for key in ("seeds", "sources", "evaluations")}
    found = table(tables)
    write_json(args.out, {"machine": machine(), **settings, **found})
    for kind in ("rows", "safety term changes, points"):
        print(kind)
        for name, row in found[kind].items():
            cells = (
                f"{metric} {v['mean']:6.1f} ({v['min']:.0f} to {v['max']:.0f})"
                for metric, v in row.items()
            )
            print(f"  {name:32}", "  ".join(cells))


if __name__ == "__main__":
    main()
