"""Are the probes that models write right? On the small world, where the truth is known.

    python benchmarks/probe_quality.py                   # 300 safety and 300 domain probes
    .venv-vllm/bin/python benchmarks/probe_quality.py --engine vllm

The models of the small world write and answer the probes, as in the demo, with its gates and the
phrase judge. What a prompt should get is a function of the prompt (synth/zoo/world.py), which
the pipeline never sees. Counted are, on all probes and on a held-out half, split as a run splits
them: harmful questions for which a refusal is right; domain answers, and answers to benign twins,
that are the true ones. Repeats are counted afresh, and so are leaks: a prompt, a fact or an act
that the world's held-out set holds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from measure import machine, write_json

from search.commands.demo import demo_config
from search.commands.write_probes import writers
from search.config import SearchConfig
from synth.gates.leaks import LeakReference
from synth.judges import PhraseJudge
from synth.judges.reviewer import NoReviewer
from synth.probes.probe import Probe, ProbeSet
from synth.text.normalise import normalise
from synth.writing.config import Counts
from synth.writing.pipeline import WritingInputs, make_probes
from synth.zoo import Zoo, ZooSpec, build_zoo
from synth.zoo.world import REFUSAL, World

# How many probes, and the world that writes them. The world has no more than 288 benign twins.
SIZES: dict[str, tuple[Counts, dict[str, Any]]] = {
    "full": (Counts(domain=300, harmless=300, helpful=200, honest=0), {}),
    "tiny": (Counts(domain=16, harmless=16, helpful=16, honest=0), {"width": 64, "effort": 0.35}),
}


def precision(probes: Sequence[Probe], right: Callable[[Probe], bool]) -> dict[str, float]:
    """Share of probes that are right, with its standard error."""
    count = max(1, len(probes))
    share = sum(map(right, probes)) / count
    return {"n": len(probes), "share": share, "stderr": sqrt(share * (1 - share) / count)}


def quality(probes: ProbeSet, world: World, heldout: ProbeSet, seed: int) -> dict[str, Any]:
    """What is true of the probes."""

    def right(probe: Probe) -> bool:
        truth = world.truth(probe.prompt)
        return truth == REFUSAL if probe.axis == "harmless" else truth == probe.answer

    split = probes.with_splits(0.5, 0.0, seed)
    reference = LeakReference(heldout.probes)
    texts = [normalise(probe.prompt) for probe in probes]
    return {
        "probes": len(probes),
        "duplicates": len(texts) - len(set(texts)),
        "leaks": sum(reference.why_leaked(probe) is not None for probe in probes),
        "right": {
            axis: {
                "all": precision(probes.axis(axis).probes, right),
                "held-out half": precision(split.axis(axis).split("heldout").probes, right),
            }
            for axis in ("harmless", "helpful", "domain")
        },
    }


def write(zoo: Zoo, kind: str, counts: Counts, seed: int) -> tuple[ProbeSet, dict[str, Any]]:
    """Let the models of a world write probes."""
    record = demo_config(zoo, Path("unused"), seed=seed, device="cpu", trials=1).record()
    record["engine"]["kind"] = kind
    config = SearchConfig.from_record(record)
    assert config.probes.write is not None  # the demo's models write
    begin = time.perf_counter()
    inputs = WritingInputs(
        pool=writers(config),
        judge=PhraseJudge(),
        reviewer=NoReviewer(),
        heldout=ProbeSet.from_jsonl(zoo.heldout),
        terms=World(zoo.seed).terms,
    )
    opened = time.perf_counter()
    probes, report = make_probes(
        config.probes.write.model_copy(update={"counts": counts}),
        inputs,
        seed=seed,
    )
    written = time.perf_counter()
    rows = [row.model_dump() for row in report.rows]
    return probes, {"open_s": opened - begin, "write_s": written - opened, "axes": rows}


def main() -> None:
    """Write the probes, count and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--seed", type=int, default=0, help="of the world and of the probes")
    parser.add_argument("--zoo", type=Path, default=Path("runs/zoo"), help="where worlds are kept")
    parser.add_argument("--out", type=Path, default=None, help="JSON file to write")
    args = parser.parse_args()
    counts, world = SIZES[args.size]
    record: dict[str, Any] = {"engine": args.engine, "seed": args.seed, "machine": machine()}
    zoo = build_zoo(args.zoo, ZooSpec(seed=args.seed, **world))
    probes, how = write(zoo, args.engine, counts, args.seed)
    found = quality(probes, World(args.seed), ProbeSet.from_jsonl(zoo.heldout), args.seed)
    write_json(args.out, record | how | found)
    for row in how["axes"]:
        print(f"{row['axis']:9} {row['kept']} kept of {row['written']}: {row['reasons']}")
    print(f"{found['probes']} probes, {found['duplicates']} repeats, {found['leaks']} leaks")
    for axis, parts in found["right"].items():
        for part, one in parts.items():
            share, error = 100 * one["share"], 100 * one["stderr"]
            print(f"{axis:9} right, {part:13} {share:6.2f} ± {error:.2f} % of {one['n']}")
    print(f"{args.engine}: opened in {how['open_s']:.1f} s, written in {how['write_s']:.1f} s")


if __name__ == "__main__":
    main()
