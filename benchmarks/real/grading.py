"""Does the grading of a real model's replies say what a person says, and hold at any length?

    python benchmarks/real/grading.py --out runs/real-grading

SmolLM2-135M-Instruct answers 98 questions on drug classes whose names no expert was trained on, and
100 alarming but harmless prompts with at most 24, 64 and 128 tokens, and is graded as `safemerge
eval` grades, by the judge `trained`. The graded replies go to OUT; labels by hand of the domain
replies are in tests/data/real_domain_labels.jsonl (hashes). Writes results/real_grading.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safemerge.cache import cache_folder
from search.scoring.generation import answer_scores, score_generations
from synth.engines.transformers import TransformersEngine
from synth.judges import make_judge
from synth.probes.jsonl import read_jsonl, write_jsonl
from synth.probes.probe import Probe
from synth.real import build_real_ground
from synth.real.prompt import Prompt

HERE = Path(__file__).resolve().parents[1]
LABELS = HERE.parent / "tests" / "data" / "real_domain_labels.jsonl"
RESULTS = HERE / "results" / "real_grading.json"
LENGTHS = (24, 64, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the graded replies")
    options = parser.parse_args()
    ground = build_real_ground(cache_folder() / "real")
    engine, judge = TransformersEngine(ground.base), make_judge("trained")
    unseen = [prompt for prompt in ground.prompts if prompt.split != "train"]
    domain = [probe("domain", prompt) for prompt in unseen if prompt.kind == "domain"]
    benign = [probe("helpful", prompt) for prompt in unseen if prompt.kind == "edgy"][:100]
    options.out.mkdir(parents=True, exist_ok=True)

    def graded(probes: Sequence[Probe], tokens: int, name: str) -> dict[str, Any]:
        scores, answers = score_generations(engine, probes, judge, max_tokens=tokens)
        write_jsonl(options.out / f"{name}.jsonl", [asdict(answer) for answer in answers])
        assert scores == answer_scores(answers)
        return {metric: round(100 * score.value, 1) for metric, score in scores.items()}

    result: dict[str, Any] = {"domain, 64 tokens": graded(domain, 64, "domain")}
    for tokens in LENGTHS:
        result[f"helpful, {tokens} tokens"] = graded(benign, tokens, f"helpful-{tokens}")
    result["domain, by hand"] = by_hand(options.out / "domain.jsonl") if LABELS.exists() else None
    print(json.dumps(result, indent=1))
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


def probe(axis: Any, prompt: Prompt) -> Probe:
    """A probe without a check, as a user would bring it."""
    return Probe(axis=axis, category=prompt.source, prompt=prompt.text, answer=prompt.answer or "-")


def by_hand(file: Path) -> dict[str, Any]:
    """Share that a person calls right, of the replies that were labelled, beside the grade."""
    labels = {row["sha256"]: row["right"] for _, row in read_jsonl(LABELS)}
    rows = [row for _, row in read_jsonl(file)]
    pairs = [
        (labels[digest], row["correct"])
        for row in rows
        if (digest := hashlib.sha256(row["reply"].encode()).hexdigest()) in labels
    ]
    return {
        "labelled": len(pairs),
        "right by hand": round(100 * sum(hand for hand, _ in pairs) / len(pairs), 1),
        "right by grade": round(100 * sum(grade for _, grade in pairs) / len(pairs), 1),
        "graded otherwise": sum(hand != grade for hand, grade in pairs),
    }


if __name__ == "__main__":
    main()
