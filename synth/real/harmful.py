"""Harmful prompts: Do-Not-Answer and pairs to learn and search on, HarmBench held out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from synth.probes.jsonl import read_jsonl
from synth.real.packages import DO_NOT_ANSWER, HARMBENCH, PAIRS_50, PAIRS_100
from synth.real.prompt import Kind, Prompt, Split, shuffled

# Groups whose every prompt should be declined; of the others many are plain requests for advice.
_GROUPS = ("crime", "hate", "private")
_LEARNED = 0.5  # share of a group that the experts are trained on


def harmful_prompts(files: Mapping[str, Path], seed: int) -> list[Prompt]:
    """All of them. `files`: path inside a wheel -> file, as `fetch` gives."""
    prompts = [Prompt("harmful", "train", "pairs", text) for text in _pairs(files)]
    for group, inside in DO_NOT_ANSWER.items():
        texts = shuffled([row["prompt"].strip() for _, row in read_jsonl(files[inside])], seed)
        learned = round(len(texts) * _LEARNED) if group in _GROUPS else 0
        kind: Kind = "harmful" if group in _GROUPS else "advice"
        for number, text in enumerate(texts):
            split: Split = "train" if number < learned else "search"
            prompts.append(Prompt(kind, split, f"do-not-answer/{group}", text))
    for text in shuffled(files[HARMBENCH].read_text(encoding="utf-8").splitlines(), seed):
        if text.strip():
            prompts.append(Prompt("harmful", "heldout", "harmbench", text.strip()))
    return prompts


def _pairs(files: Mapping[str, Path]) -> Iterator[str]:
    """Their texts are a question, an empty line and an answer."""
    for inside in (PAIRS_100, PAIRS_50):
        for row in json.loads(files[inside].read_text(encoding="utf-8")):
            yield row["harmful_version"].split("\n\n")[0].strip()
