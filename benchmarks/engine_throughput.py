"""Prompts a second of the vLLM engine and of the transformers engine, side by side.

    python benchmarks/engine_throughput.py --size 350m --out result.json

Both answer the same prompts on the same random checkpoint, greedily, and score the same answers.
Random models hardly ever end a reply, so nearly all have the same length and the rates compare.
Where vLLM is not installed, it is left out and said so; `make test-vllm` makes an environment with
it.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from measure import machine, spread, write_json
from random_models import SIZES, write_models

from synth.engines import Engine
from synth.engines.transformers import TransformersEngine
from synth.engines.vllm import VllmEngine

TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


def measure(engine: Engine, prompts: list[str], tokens: int, repeats: int) -> dict[str, Any]:
    """Prompts a second when chatting and when scoring, after one round that is not counted."""
    answers = [" ".join(prompt.split()[:4]) for prompt in prompts]
    pairs = list(zip(prompts, answers, strict=True))
    return {
        "chat": _rates(lambda: engine.chat(prompts, max_tokens=tokens), len(prompts), repeats),
        "score": _rates(lambda: engine.loglikelihood(pairs), len(prompts), repeats),
    }


def _rates(work: Callable[[], object], count: int, repeats: int) -> dict[str, float]:
    rates = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        work()
        rates.append(count / (time.perf_counter() - begin))
    return spread(rates[1:])


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="350m")
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--words", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of a reply")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="of transformers; vLLM takes its own")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    draw = random.Random(0)
    words = [f"w{i}" for i in range(1, SIZES[args.size].vocabulary)]
    prompts = [" ".join(draw.choices(words, k=args.words)) for _ in range(args.prompts)]
    record: dict[str, Any] = {"machine": machine(), "arguments": {**vars(args), "out": None}}
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder), SIZES[args.size])
        checkpoint = Path(folder) / "base"
        settings = checkpoint / "tokenizer_config.json"
        content = json.loads(settings.read_text(encoding="utf-8"))
        content |= {"eos_token": "<unk>", "chat_template": TEMPLATE}
        settings.write_text(json.dumps(content), encoding="utf-8")
        engines: dict[str, Engine] = {
            "transformers": TransformersEngine(checkpoint, device=args.device)
        }
        if find_spec("vllm") is not None:
            engines["vllm"] = VllmEngine(checkpoint)
        record["prompts_per_s"] = {
            name: measure(engine, prompts, args.tokens, args.repeats)
            for name, engine in engines.items()
        }
    write_json(args.out, record)
    print(f"{'prompts/s':14}{'chat':>10}{'score':>10}")
    for name, rates in record["prompts_per_s"].items():
        print(f"{name:14}{rates['chat']['median']:10.1f}{rates['score']['median']:10.1f}")
    if "vllm" not in engines:
        print("vLLM is not installed; `make test-vllm` makes an environment with it")


if __name__ == "__main__":
    main()
