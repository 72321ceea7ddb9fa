"""What cheap scores and judged replies say of the same merges of the real model: the raw material.

    python benchmarks/real/calibration.py --out runs/real-calibration

Base, three LoRA experts and 60 merges of them (task arithmetic and RESM; one source alone, one
weight for each source, and weights by runs of layers) answer probes of four kinds greedily, 20
tokens each: those that cheap scores are taken on (A) and others of the same kind (B). For A the
logprob of every token of the wanted answer is kept, of a refusal where an answer is wanted, and of
the words with which refusals and admissions of ignorance begin. Wanted answers are the experts' own
replies, as probes of a user's are. OUT/raw.jsonl has a line for each model; what is there is not
measured again. `calibration_maps.py` reads it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safemerge import ModelRef, Recipe
from safemerge.cache import cache_folder, tensor_store
from safemerge.live import stored_views
from safemerge.resident import ResidentMerge
from synth.engines.batches import left_padded
from synth.engines.transformers import TransformersEngine
from synth.judges import make_judge
from synth.probes.jsonl import read_jsonl
from synth.probes.verdict import Verdict
from synth.real import RealGround, build_real_ground
from synth.real.ground import EXPERTS
from synth.real.prompt import Prompt, draw
from synth.text.ignorance import admits_ignorance

PROBES = {"A": 16, "B": 24}  # of each kind
REPLY_TOKENS = 14
ROWS = 64  # read together
B_EVERY = 3  # every how many models answer B
LAYERS = 30
OPENING = 3  # tokens
OPENINGS = 2  # of refusals, and as many of admissions
KINDS = {  # kind -> splits that A and B are drawn from, in turn
    "harmful": ("search",),
    "edgy": ("search",),
    "domain": ("search", "heldout"),
    "unknowable": ("search",),
}


@dataclass(frozen=True, slots=True)
class Sheet:
    """Prompts, in any order of kinds, with what is scored on them."""

    prompts: list[list[int]]  # token ids behind the shared beginning
    # (candidates, prompts, tokens); no tokens where a candidate is none of that prompt's
    answers: list[list[list[int]]]


class Reader:
    """Reads prompts once for all that is asked of them, behind the beginning they share."""

    def __init__(self, engine: TransformersEngine, prefix: list[int]) -> None:
        self.model, self.engine, self.prefix = engine.model, engine, prefix
        self.stops = torch.tensor(sorted(engine._stops))

    @torch.inference_mode()
    def measure(self, sheet: Sheet) -> tuple[list[list[list[float]]], list[str]]:
        """Logprobs of the tokens of each candidate (candidates, prompts, tokens), and replies."""
        begun = self.model(torch.tensor([self.prefix]), use_cache=True).past_key_values
        held = [(layer.keys, layer.values) for layer in begun.layers]
        count = len(sheet.prompts)
        found: list[list[list[float]]] = [[[] for _ in range(count)] for _ in sheet.answers]
        replies = [""] * count
        order = sorted(range(count), key=lambda row: len(sheet.prompts[row]))
        for start in range(0, count, ROWS):
            rows = order[start : start + ROWS]
            for layer, (keys, values) in zip(begun.layers, held, strict=True):
                layer.keys = keys.expand(len(rows), -1, -1, -1)
                layer.values = values.expand(len(rows), -1, -1, -1)
            self._rows(sheet, rows, begun, found, replies)
        return found, replies

    def _rows(
        self, sheet: Sheet, rows: list[int], cache: Any, found: Any, replies: list[str]
    ) -> None:
        ids = left_padded([sheet.prompts[row] for row in rows], 0)
        own = left_padded([[1] * len(sheet.prompts[row]) for row in rows], 0)
        mask = torch.cat([torch.ones(len(rows), len(self.prefix), dtype=own.dtype), own], dim=1)
        first = self._forward(ids, mask, cache, keep=1)[:, -1].log_softmax(-1)
        for number, answers in enumerate(sheet.answers):
            chosen = [answers[row] or [0] for row in rows]
            longest = max(map(len, chosen))
            padded = torch.tensor([one + [0] * (longest - len(one)) for one in chosen])
            logprobs = [first.gather(1, padded[:, :1])]
            if longest > 1:
                more = torch.cat([mask, torch.ones_like(padded[:, 1:])], dim=1)
                later = self._forward(padded[:, :-1], more, cache, keep=0).log_softmax(-1)
                logprobs.append(later.gather(2, padded[:, 1:, None])[..., 0])
                cache.crop(1 - longest)
            table = torch.cat(logprobs, dim=1).tolist()
            for row, values in zip(rows, table, strict=True):
                kept = values[: len(answers[row])]
                found[number][row] = [round(value, 3) for value in kept]
        token = first.argmax(-1)
        said = [token]
        ended = torch.isin(token, self.stops)
        while len(said) < REPLY_TOKENS and not bool(ended.all()):
            mask = torch.cat([mask, torch.ones_like(token[:, None])], dim=1)
            token = self._forward(token[:, None], mask, cache, keep=1)[:, -1].argmax(-1)
            said.append(token)
            ended |= torch.isin(token, self.stops)
        texts = self.engine.template.decode(torch.stack(said, 1).tolist(), self.engine._stops)
        for row, text in zip(rows, texts, strict=True):
            replies[row] = text

    def _forward(self, ids: Tensor, mask: Tensor, cache: Any, *, keep: int) -> Tensor:
        """Logits of the last `keep` tokens, or of all where it is 0."""
        positions = (mask.cumsum(1) - 1).clamp_(min=0)[:, -ids.shape[1] :]
        logits: Tensor = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
        ).logits
        return logits.float()


def drawn_probes(prompts: Sequence[Prompt]) -> dict[str, list[Prompt]]:
    """`{kind/A or kind/B: prompts}`."""
    sets: dict[str, list[Prompt]] = {}
    for kind, splits in KINDS.items():
        some = [each for each in prompts if each.kind == kind and each.split in splits]
        some.sort(key=lambda each: draw(each.text, 17))
        sets[f"{kind}/A"] = some[: PROBES["A"]]
        sets[f"{kind}/B"] = some[PROBES["A"] : PROBES["A"] + PROBES["B"]]
    return sets


def recipes(ground: RealGround) -> dict[str, Recipe]:
    """`{name: recipe}` of base, experts and merges."""

    def recipe(method: str, weights: Mapping[str, Mapping[str, float]], **more: Any) -> Recipe:
        return Recipe(
            base=ModelRef(name="base", path=str(ground.base)),
            sources=tuple(ModelRef(name=n, path=str(ground.adapters[n])) for n in EXPERTS),
            method=method,
            params={},
            places="layers",
            weights={group: dict(row) for group, row in weights.items()},
            **more,
        )

    def resm(weights: Mapping[str, Mapping[str, float]], ratio: float) -> Recipe:
        return recipe("resm", weights, rank_ratio={"default": ratio})

    rng = np.random.default_rng(5)
    none = dict.fromkeys(EXPERTS, 0.0)

    def one() -> dict[str, dict[str, float]]:
        return {"default": {name: round(float(rng.uniform(0.0, 1.3)), 3) for name in EXPERTS}}

    def by_layers() -> dict[str, dict[str, float]]:
        runs = [one()["default"] for _ in range(3)]
        layers = {f"layer.{n}": runs[n * 3 // LAYERS] for n in range(LAYERS)}
        return {"default": runs[1], **layers}

    made = {"base": recipe("task_arithmetic", {"default": none})}
    for name in EXPERTS:
        made[name] = recipe("task_arithmetic", {"default": {**none, name: 1.0}})
    for name in EXPERTS:
        for weight in (0.3, 0.5, 0.7):
            row = {"default": {**none, name: weight}}
            made[f"{name} x {weight}"] = recipe("task_arithmetic", row)
    for number in range(15):
        made[f"sum {number}"] = recipe("task_arithmetic", one())
        made[f"sum by layers {number}"] = recipe("task_arithmetic", by_layers())
    for number in range(6):
        made[f"resm {number}"] = resm(one(), float(rng.choice([0.1, 0.2, 0.35])))
    for number in range(15):
        made[f"resm by layers {number}"] = resm(by_layers(), float(rng.choice([0.1, 0.2, 0.35])))
    return made


def wanted(
    sets: Mapping[str, list[Prompt]], said: Mapping[str, Mapping[str, list[str]]]
) -> tuple[dict[str, list[str]], str]:
    """`{kind: wanted answers to A}`, and the commonest refusal.

    Args:
        said: `{model: {set: replies}}`; a reply that is no refusal, or admits nothing, gives way to
            the commonest that does.
    """
    judge = make_judge("trained")
    harmful = [prompt.text for prompt in sets["harmful/A"]]
    refusing, abstaining = said["refusing"]["harmful/A"], said["abstaining"]["unknowable/A"]
    refused = [v == Verdict.REFUSE for v in judge.judge(harmful, refusing)]
    refusal = Counter(r for r, ok in zip(refusing, refused, strict=True) if ok).most_common(1)[0][0]
    admitted = [admits_ignorance(reply) for reply in abstaining]
    honest = Counter(r for r, ok in zip(abstaining, admitted, strict=True) if ok).most_common(1)
    answers = {
        "harmful": [r if ok else refusal for r, ok in zip(refusing, refused, strict=True)],
        "edgy": said["base"]["edgy/A"],
        "domain": [prompt.answer for prompt in sets["domain/A"]],
        "unknowable": [
            r if ok else honest[0][0] for r, ok in zip(abstaining, admitted, strict=True)
        ],
    }
    return answers, refusal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of raw.jsonl")
    options = parser.parse_args()
    ground = build_real_ground(cache_folder() / "real")
    engine = TransformersEngine(ground.base, dtype=torch.float32)
    sets = drawn_probes(ground.prompts)
    rendered = {
        name: [p for p, _ in engine.template.tokenize([(each.text, "-") for each in some])]
        for name, some in sets.items()
    }
    first, *others = [ids for some in rendered.values() for ids in some]
    shared = next(i for i, token in enumerate(first) if any(row[i] != token for row in others))
    reader = Reader(engine, first[:shared])
    behind = {name: [ids[shared:] for ids in some] for name, some in rendered.items()}
    live: dict[str, Tensor] = {}
    merges: list[ResidentMerge] = []
    made = recipes(ground)

    def make_live(recipe: Recipe) -> None:
        if not merges or not merges[0].serves(recipe):
            merges[:] = [ResidentMerge(recipe, store=tensor_store())]
        if not live:
            live.update(stored_views(engine.model, merges[0].names))
        merges[0].apply(recipe, live)

    options.out.mkdir(parents=True, exist_ok=True)
    # The experts' own replies are the wanted answers, so they come first, without scores.
    place = options.out / "said.json"
    if not place.exists():
        found: dict[str, dict[str, list[str]]] = {}
        for name, some in (
            ("base", "edgy/A"),
            ("refusing", "harmful/A"),
            ("abstaining", "unknowable/A"),
        ):
            make_live(made[name])
            found[name] = {some: reader.measure(Sheet(behind[some], []))[1]}
        place.write_text(json.dumps(found))
    said = json.loads(place.read_text())
    answers, refusal = wanted(sets, said)
    begins = {
        kind: [opening for opening, _ in counted.most_common(OPENINGS)]
        for kind in ("harmful", "unknowable")
        for counted in [
            Counter(
                tuple(ids[:OPENING])
                for _, ids in engine.template.tokenize(
                    list(zip((p.text for p in sets[f"{kind}/A"]), answers[kind], strict=True))
                )
            )
        ]
    }
    openings = [list(o) for o in dict.fromkeys((*begins["harmful"], *begins["unknowable"]))]
    asked = {part: [f"{kind}/{part}" for kind in KINDS] for part in ("A", "B")}
    prompts = {
        part: [ids for name in names for ids in behind[name]] for part, names in asked.items()
    }
    rows = [(kind, prompt.text) for kind in KINDS for prompt in sets[f"{kind}/A"]]
    texts = [text for _, text in rows]
    every = [answer for kind in KINDS for answer in answers[kind]]

    def ids_of(row: Sequence[str]) -> list[list[int]]:
        return [ids for _, ids in engine.template.tokenize(list(zip(texts, row, strict=True)))]

    declined = ids_of([refusal] * len(texts))
    candidates = [
        ids_of(every),
        [ids if kind == "edgy" else [] for (kind, _), ids in zip(rows, declined, strict=True)],
        *([[] if kind == "domain" else list(o) for kind, _ in rows] for o in openings),
    ]
    sheets = {"A": Sheet(prompts["A"], candidates), "B": Sheet(prompts["B"], [])}
    record = {
        "prompts": {name: [p.text for p in some] for name, some in sets.items()},
        "answers": answers,
        "right": {name: [p.answer for p in some] for name, some in sets.items()},
        "refusal": refusal,
        "openings": {
            kind: [openings.index(list(o)) for o in found] for kind, found in begins.items()
        },
        "opening texts": [engine.tokenizer.decode(ids) for ids in openings],
    }
    (options.out / "probes.json").write_text(json.dumps(record, indent=1))
    raw = options.out / "raw.jsonl"
    done = {row["model"] for _, row in read_jsonl(raw)} if raw.exists() else set()
    # RESM is prepared once; within a method, what is there when it is stopped is a fair share.
    order = sorted(made, key=lambda name: (made[name].method == "resm", draw(name, 3)))
    for number, name in enumerate(order):
        if name in done:
            continue
        start = time.process_time()
        make_live(made[name])
        line: dict[str, Any] = {"model": name, "recipe": json.loads(made[name].canonical_json())}
        for part in ("A", "B") if number % B_EVERY == 0 or name in said else ("A",):
            logprobs, replies = reader.measure(sheets[part])
            line[part] = {"logprobs": logprobs, "replies": replies}
        with raw.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{name}: {time.process_time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
