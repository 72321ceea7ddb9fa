"""A trial on the real model beside bare forward passes, in CPU seconds, paired and in turns.

    OMP_NUM_THREADS=1 python benchmarks/real/trial_speed.py --probes FILE --out result.json

A trial is what a search does with a recipe: merge it into the live model, answer the sentinels,
score the probes, measure the divergence. Beside it stand forward passes of the model in the same
dtype, with nothing made of their logits:

- apart: every text of the trial in padded batches, as a plain loop over them would have it,
- as read: the rows that the trial reads, with the output matrix at the same places.

The texts of the sentinels are their prompts and replies, in padded batches in both.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from measure import machine, spread, write_json

from safemerge import ModelRef, Recipe, ResidentMerge
from safemerge.cache import cache_folder
from safemerge.live import stored_views
from search.scoring.divergence import Divergence
from search.scoring.likelihood import LikelihoodEvaluator, staged
from synth.engines.batches import Batch, encode
from synth.engines.transformers import TransformersEngine
from synth.probes.general import builtin_general
from synth.probes.probe import AXES, ProbeSet
from synth.real import build_real_ground

SENTINELS, SENTINEL_TOKENS = 16, 12  # as search/scoring/likelihood.py has them
REPLY_TOKENS = 32


def timed(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def passes(engine: TransformersEngine, batches: Sequence[Batch]) -> None:
    """Forward passes alone."""
    with torch.inference_mode():
        for batch in batches:
            batch.answer_logits(engine.model)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--probes", type=Path, required=True, help="probe file")
    parser.add_argument("--count", type=int, default=24, help="probes of each axis")
    parser.add_argument("--general", type=int, default=12, help="general prompts, at most 32")
    parser.add_argument("--method", default="task_arithmetic")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=cache_folder() / "real")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    ground = build_real_ground(args.cache)
    read = ProbeSet.from_jsonl(args.probes)
    probes = [probe for axis in AXES for probe in read.axis(axis).probes[: args.count]]
    engine = TransformersEngine(ground.base)
    evaluator = LikelihoodEvaluator(engine, probes)
    general = builtin_general().search[: args.general]
    replies = engine.chat(general, max_tokens=REPLY_TOKENS)
    divergence = Divergence(engine, general, replies)
    plain = Recipe(
        base=ModelRef(name="base", path=str(ground.base)),
        sources=tuple(ModelRef(name=n, path=str(p)) for n, p in ground.experts.items()),
        method=args.method,
        places="modules",
        weights={"all": {}},
    )
    resident = ResidentMerge(plain)
    live = stored_views(engine.model, resident.names)
    draw = random.Random(0)

    # What a trial reads, in its own rows and apart.
    asked = [probe.prompt for probe in probes[:: max(1, len(probes) // SENTINELS)][:SENTINELS]]
    said = engine.chat(asked, max_tokens=SENTINEL_TOKENS)
    sentinels = encode(engine.template, list(zip(asked, said, strict=True)), batch_tokens=2048)
    refusal = next((p.answer for p in probes if p.axis == "harmless"), None)
    texts = [list(zip(general, replies, strict=True))]
    for part in staged(probes):
        texts.append([(probe.prompt, probe.answer) for probe in part])
        if refusal is not None:
            texts[-1] += [(probe.prompt, refusal) for probe in part if probe.axis == "helpful"]
    apart = [b for some in texts for b in encode(engine.template, some, batch_tokens=2048)]
    rows = [b for some in texts for b in engine.encode(some)]

    def apply() -> None:
        weights = {g: {n: draw.uniform(0, 0.6) for n in ground.experts} for g in resident.groups}
        resident.apply(plain.model_copy(update={"weights": weights}), live)

    parts: dict[str, Callable[[], object]] = {
        "merge": apply,
        "sentinels": partial(engine.chat, asked, max_tokens=SENTINEL_TOKENS),
        "probes and sentinels": evaluator.measure_live,
        "divergence": divergence.measure,
        "bare, apart": partial(passes, engine, [*sentinels, *apart]),
        "bare, as read": partial(passes, engine, [*sentinels, *rows]),
    }
    took: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(args.repeats):
        for name, work in parts.items():
            took[name].append(timed(work))
        print({name: round(seconds[-1], 2) for name, seconds in took.items()}, file=sys.stderr)
    whole = ("merge", "probes and sentinels", "divergence")
    trials = [sum(each) for each in zip(*(took[name] for name in whole), strict=True)]
    record = {
        "machine": machine(),
        "dtype": str(engine.model.dtype),
        "method": args.method,
        "pairs": sum(map(len, texts)),
        "tokens": {
            "apart, padded": sum(batch.input_ids.numel() for batch in apart),
            "as read": sum(batch.input_ids.numel() for batch in rows),
            "sentinels": sum(batch.input_ids.numel() for batch in sentinels),
        },
        "cpu_s": {"trial": spread(trials), **{name: spread(s) for name, s in took.items()}},
        "ratio": {
            name: spread([a / b for a, b in zip(trials, took[name], strict=True)])
            for name in ("bare, apart", "bare, as read")
        },
    }
    print(json.dumps(record, indent=1))
    write_json(args.out, record)


if __name__ == "__main__":
    main()
