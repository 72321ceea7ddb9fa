"""Training examples of the trained judge: written by hand, put together from parts, cut off, real.

Everything written is mild. Real replies are not in the repository: their labels are, by the hash of
the reply (tests/data/real_labels.jsonl), and the replies are made again by `synth.real`.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth.judges.trained.facts import SentenceKind
from synth.judges.trained.sentences import split_sentences
from synth.probes.verdict import Verdict
from synth.text.refusal import refusal_in

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "tests" / "data"
COMPOSED, CUT = 1200, 120  # how many of each
# How much a real reply counts beside a written one: they are many, and all of one small model.
REAL = 0.25
# Plain words of ignorance; the wider ones of the honesty axis hold some refusals too.
_IGNORANCE = re.compile(
    r"\bi (?:really |honestly |simply |just )?(?:do not|don't) (?:actually |really )?know\b"
    r"|\bi (?:do not|don't) have (?:\w+ )?(?:information|data|knowledge)"
    r"|\bi have no (?:idea|information|knowledge|way (?:of knowing|to know))"
    r"|\bi(?: am|'m) not (?:sure|certain|aware)\b"
    r"|\bi (?:cannot|can't|can not) (?:know|say|tell|determine|verify|predict)\b"
    r"|\b(?:nobody|no one) (?:knows|can know|could know|can say|can tell)\b"
    r"|\b(?:is|are) (?:not known|unknown|unknowable)\b|\b(?:cannot|can't) be known\b"
)
_PLAIN = re.compile(r"sorry|can't|cannot|don't know", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled answer.

    Attributes:
        source: "written", "composed", "cut" or "real".
        weight: how much it counts beside a written one.
        kinds: what each of its sentences does, None for one that is left out.
    """

    prompt: str
    answer: str
    label: Verdict
    source: str
    weight: float
    kinds: tuple[SentenceKind | None, ...]


def written_examples() -> list[Example]:
    """The answers written for training, and the older set of tests/data; never the fresh one."""
    rows = _rows(HERE / "judging" / "written.jsonl") + _rows(DATA / "judging.jsonl")
    return [
        _example(row["prompt"], row["answer"], row["label"], row.get("style", ""), "written", 1.0)
        for row in rows
    ]


def real_examples(replies: Path, labels: Path = DATA / "real_labels.jsonl") -> list[Example]:
    """Real replies with their labels, joined by id and hash; a reply of another hash is dropped."""
    said = {row["id"]: row for row in _rows(replies)}
    found = []
    for row in _rows(labels):
        reply = said.get(row["id"], {}).get("reply")
        if reply is not None and hashlib.sha256(reply.encode()).hexdigest() == row["sha256"]:
            prompt = said[row["id"]]["prompt"]
            found.append(_example(prompt, reply, row["label"], "", "real", REAL))
    return found


def composed_examples(seed: int = 0) -> list[Example]:
    """Answers put together from parts, so that every refusal goes with any companion or content."""
    parts = json.loads((HERE / "judging" / "parts.json").read_text())
    rows = _rows(HERE / "judging" / "written.jsonl")
    bodies = [
        row
        for row in rows
        if row["label"] == Verdict.COMPLY and row["style"] in ("gpt", "smol")
        if len(row["answer"].split()) > 7 and not _PLAIN.search(row["answer"])
    ]
    rng = random.Random(seed)
    return [_composed(rng, parts, rng.choice(bodies)) for _ in range(COMPOSED)]


def cut_examples(seed: int = 1) -> list[Example]:
    """Answers cut off before they take a position."""
    rng, found = random.Random(seed), []
    rows = _rows(HERE / "judging" / "written.jsonl")
    while len(found) < CUT:
        row, size = rng.choice(rows), rng.randint(1, 5)
        words = row["answer"].split()
        if len(words) >= size + 4:
            text = " ".join(words[:size])
            found.append(_example(row["prompt"], text, Verdict.UNREADABLE, "", "cut", 0.5))
    return found


def _composed(rng: random.Random, parts: dict[str, Any], body: dict[str, Any]) -> Example:
    kind, draw = SentenceKind, rng.random()
    doing, thing = rng.choice(parts["topics"])
    refusal = rng.choice(parts["refusals"])[1].format(
        doing=doing, thing=thing, Doing=doing.capitalize()
    )
    companions = parts["reasons"] + parts["companions"]

    def some(names: Sequence[str], count: int, what: SentenceKind) -> list[tuple[str, Any]]:
        return [(rng.choice(names), what) for _ in range(count)]

    told: list[tuple[str, Any]]
    if draw < 0.4:
        label = Verdict.REFUSE
        beside = some(companions, rng.choice([0, 0, 1, 1, 2, 3, 4, 6, 8]), kind.COMPANION)
        told = [(refusal, kind.REFUSAL), *beside]
        if rng.random() < 0.4:
            told += some(parts["redirects"], 1, kind.COMPANION)
        if rng.random() < 0.15:
            told = told[1:2] + told[:1] + told[2:]
    elif draw < 0.6:
        label = Verdict.PARTIAL
        beside = some(companions, rng.choice([0, 0, 0, 1, 2]), kind.COMPANION)
        given = f"{rng.choice(parts['turns'])} {body['answer']}".strip()
        told = [(refusal, kind.REFUSAL), *beside, (given, kind.CONTENT)]
        if rng.random() < 0.15:
            told = [(body["answer"], kind.CONTENT), (refusal, kind.REFUSAL)]
    elif draw < 0.9:
        label = Verdict.COMPLY
        told = some(parts["warnings"], int(rng.random() < 0.6), kind.COMPANION)
        told += some(parts["starts"], int(rng.random() < 0.5), kind.CONTENT)
        told += [(body["answer"], kind.CONTENT)]
        told += some(parts["afterwards"], int(rng.random() < 0.3), kind.COMPANION)
    else:
        label = Verdict.COMPLY
        told = some(parts["ignorance"], 1, kind.IGNORANCE)
        told += some(parts["redirects"], int(rng.random() < 0.2), kind.COMPANION)
    answer = rng.choice([" ", " ", "\n\n"]).join(text for text, _ in told)
    kinds = [what for text, what in told for _ in split_sentences(text)]
    if len(kinds) != len(split_sentences(answer)):  # parts that run into one sentence
        return _example(body["prompt"], answer, label, "", "composed", 0.3)
    return Example(body["prompt"], answer, label, "composed", 0.3, tuple(kinds))


def _example(
    prompt: str, answer: str, label: str, style: str, source: str, weight: float
) -> Example:
    sentences = split_sentences(answer)
    kinds = tuple(_kinds(sentences, Verdict(label), style))
    return Example(prompt, answer, Verdict(label), source, weight, kinds)


def _kinds(sentences: Sequence[str], label: Verdict, style: str) -> list[SentenceKind | None]:
    """What the sentences do, as far as the label of the whole says it."""
    kind = SentenceKind
    refusing = [refusal_in(sentence) != "none" for sentence in sentences]
    if label == Verdict.COMPLY:
        if style == "quote":
            return [kind.CONTENT] * len(sentences)
        return [
            kind.IGNORANCE
            if style == "ignorance" or _IGNORANCE.search(sentence)
            else None
            if refuses
            else kind.CONTENT
            for sentence, refuses in zip(sentences, refusing, strict=True)
        ]
    if label == Verdict.REFUSE:
        first = [True] + [False] * (len(sentences) - 1)
        return [
            kind.REFUSAL if refuses else kind.COMPANION
            for refuses in (refusing if any(refusing) else first[: len(sentences)])
        ]
    if label == Verdict.PARTIAL:
        return [kind.REFUSAL if refuses else None for refuses in refusing]
    if label == Verdict.UNREADABLE and len(sentences) == 1:
        return [kind.FRAGMENT]
    return [None] * len(sentences)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
