"""Replies of the real model and its three experts, to be labelled and judged.

    python benchmarks/real/replies.py --out runs/real-replies

Writes test300.jsonl and train600.jsonl: every prompt is answered by one of the four models, in
turn, greedily. Prompts of the test come from other sets than those to learn from: HarmBench, the
second set of alarming but harmless prompts, names and templates that are held out.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from safemerge import ModelRef, Recipe, merge
from safemerge.cache import cache_folder
from synth.engines.transformers import TransformersEngine
from synth.probes.jsonl import read_jsonl, write_jsonl
from synth.real import RealGround, build_real_ground
from synth.real.cached import cached
from synth.real.ground import EXPERTS
from synth.real.lessons import KEPT, chosen
from synth.real.prompt import Prompt, draw

MODELS = ("base", *EXPERTS)
MAX_TOKENS = 64
# Kind, split and source of prompts -> how many of them; "" is any source.
TEST = {
    ("harmful", "heldout", ""): 100,
    ("edgy", "heldout", ""): 80,
    ("edgy", "search", ""): 20,
    ("domain", "heldout", ""): 50,
    ("unknowable", "heldout", ""): 50,
}
TRAIN = {
    ("harmful", "search", ""): 180,
    ("advice", "search", ""): 40,
    ("edgy", "search", ""): 50,
    ("edgy", "train", "twins"): 60,
    ("domain", "search", ""): 31,
    ("domain", "train", ""): 44,
    ("unknowable", "search", ""): 75,
    ("general", "search", "instructions"): 20,
    ("general", "search", "nq-open"): 100,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and the model that answers it."""

    prompt: Prompt
    model: str


def asked(
    prompts: Sequence[Prompt], wanted: dict[tuple[str, str, str], int], taken: set[str]
) -> list[Asked]:
    """The first prompts of each kind in an order by hash, to the models in turn.

    Texts in `taken` are left out; those that are used are added to it.
    """
    found: list[Asked] = []
    for (kind, split, source), count in wanted.items():
        some = [
            each
            for each in prompts
            if (each.kind, each.split) == (kind, split)
            and source in ("", each.source)
            and each.text not in taken
        ]
        some.sort(key=lambda each: draw(each.text, 3))
        taken |= {each.text for each in some[:count]}
        found += [Asked(each, MODELS[(len(found) + n) % 4]) for n, each in enumerate(some[:count])]
    return found


def merged(ground: RealGround, name: str, folder: Path) -> Path:
    """The checkpoint of a model: the base, or an adapter in the base at weight 1."""
    if name == "base":
        return ground.base
    recipe = Recipe(
        base=ModelRef(name="base", path=str(ground.base)),
        sources=(ModelRef(name=name, path=str(ground.experts[name])),),
        method="linear",
        params={},
        weights={"default": {name: 1.0}},
    )
    key = [ground.base.name, ground.experts[name].name]
    return cached(folder, f"merged-{name}", key, lambda empty: merge(recipe, empty / "model")) / (
        "model"
    )


def replies(checkpoint: Path, prompts: Sequence[str], folder: Path) -> dict[str, str]:
    """Prompt -> greedy reply, from the cache where they are there."""

    def answer(empty: Path) -> None:
        engine = TransformersEngine(checkpoint, dtype=torch.float32)
        said = engine.chat(prompts, max_tokens=MAX_TOKENS)
        rows = [{"prompt": p, "reply": r} for p, r in zip(prompts, said, strict=True)]
        write_jsonl(empty / "replies.jsonl", rows)

    name = checkpoint.parent.name if checkpoint.name == "model" else checkpoint.name
    place = cached(folder, "replies", [name, list(prompts), MAX_TOKENS], answer)
    return {row["prompt"]: row["reply"] for _, row in read_jsonl(place / "replies.jsonl")}


def rows(items: Sequence[Asked], said: dict[str, dict[str, str]]) -> Iterator[dict[str, Any]]:
    """Lines of the files."""
    for item in items:
        reply = said[item.model][item.prompt.text]
        yield {
            "id": hashlib.sha256(item.prompt.text.encode()).hexdigest()[:12],
            "kind": item.prompt.kind,
            "source": item.prompt.source,
            "model": item.model,
            "prompt": item.prompt.text,
            "answer": item.prompt.answer,
            "reply": reply,
            "sha256": hashlib.sha256(reply.encode()).hexdigest(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the two files")
    parser.add_argument("--cache", type=Path, default=cache_folder() / "real")
    args = parser.parse_args()
    ground = build_real_ground(args.cache)
    # What the base answered for the experts' training would be no new prompt.
    taken = set(chosen(ground.prompts, KEPT, 1))
    sets = {"test300": asked(ground.prompts, TEST, taken)}
    sets["train600"] = asked(ground.prompts, TRAIN, taken)
    said = {}
    for model in MODELS:
        print(f"{model} answers", flush=True)
        own = [item.prompt.text for items in sets.values() for item in items if item.model == model]
        said[model] = replies(merged(ground, model, args.cache), own, args.cache)
    for name, items in sets.items():
        write_jsonl(args.out / f"{name}.jsonl", rows(items, said))
        print(args.out / f"{name}.jsonl")


if __name__ == "__main__":
    main()
